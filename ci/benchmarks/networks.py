"""The two networks of the benchmarks in PyTorch, with the weights that the server loads."""

import json
import struct

import numpy
import torch
from torch import nn
from torch.nn import functional

import ssd_reference


class MobileNetV2(nn.Module):
    """SSD on MobileNetV2, from the model that ships: N x 3 x 300 x 300 to offsets (N x priors x 4) and scores."""

    # Stride, and whether the input is added to the output: server/detector/src/family/mobilenet_v2.rs.
    BLOCKS = [(2, 0), (1, 1), (2, 0), (1, 1), (1, 1), (2, 0), (1, 1), (1, 1), (1, 1), (1, 0), (1, 1), (1, 1), (2, 0)]
    BLOCKS += [(1, 1), (1, 1), (1, 0)]

    def __init__(self, path):
        super().__init__()
        weights = tensors(path)
        self.names = {}
        for name in sorted({name.rsplit(".", 1)[0] for name in weights}):
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            outputs, inputs, kernel, _ = weight.shape
            groups = outputs if inputs == 1 else 1
            layer = nn.Conv2d(inputs * groups, outputs, kernel, groups=groups)
            layer.weight.data, layer.bias.data = weight, bias
            self.names[name] = name.replace(".", "_")
            self.add_module(self.names[name], layer)

    def layer(self, x, name, stride=1, activation=True):
        layer = getattr(self, self.names[name])
        if (kernel := layer.kernel_size[0]) > 1:
            # TensorFlow's padding "SAME". `int` keeps it out of a traced graph.
            side = int(x.shape[2])
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            x = functional.pad(x, (total // 2, total - total // 2) * 2)
        x = functional.conv2d(x, layer.weight, layer.bias, stride, groups=layer.groups)
        return functional.relu6(x) if activation else x

    def forward(self, x):
        sources = []
        x = self.layer(x, "backbone.conv", 2)
        x = self.layer(x, "backbone.block_0.depthwise")
        x = self.layer(x, "backbone.block_0.project", activation=False)
        for index, (stride, residual) in enumerate(self.BLOCKS, 1):
            block, before = f"backbone.block_{index}", x
            x = self.layer(x, f"{block}.expand")
            if index == 13:
                sources.append(x)
            x = self.layer(x, f"{block}.depthwise", stride)
            x = self.layer(x, f"{block}.project", activation=False)
            x = x + before if residual else x
        sources.append(self.layer(x, "backbone.last"))
        for extra in range(4):
            x = self.layer(sources[-1], f"extras.{extra}.reduce")
            sources.append(self.layer(x, f"extras.{extra}.expand", 2))

        def heads(part, each):
            maps = [self.layer(x, f"heads.{at}.{part}", activation=False) for at, x in enumerate(sources)]
            return torch.cat([map.permute(0, 2, 3, 1).reshape(1, -1, each) for map in maps], 1)

        return heads("offsets", 4), torch.sigmoid(heads("logits", 24))


def tensors(path):
    """The tensors of a safetensors file, in single precision."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header, data = json.loads(file.read(length)), file.read()
    kinds = {"F16": numpy.float16, "F32": numpy.float32}
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            numbers = numpy.frombuffer(data[start:end], kinds[entry["dtype"]]).astype(numpy.float32)
            found[name] = torch.from_numpy(numbers).reshape(entry["shape"])
    return found


def ssd300(path):
    network = ssd_reference.SSD300()
    network.load_state_dict(torch.load(path, map_location="cpu"))
    return network.eval()


def mobilenet_v2(path):
    return MobileNetV2(path).eval()


BY_NAME = {"ssd300": ssd300, "mobilenet-v2": mobilenet_v2}
