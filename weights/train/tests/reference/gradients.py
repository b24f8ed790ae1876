"""Writes gradients.json: the training losses of one batch and their gradients, in plain PyTorch.

    python -m venv venv && venv/bin/pip install torch==2.13.0 torchvision==0.28.0 safetensors numpy
    venv/bin/python weights/train/tests/reference/gradients.py > weights/train/tests/data/gradients.json

The networks follow their papers (Liu et al. 2016; Sandler et al. 2018), with the tensor names of the weights files. The
losses are functions of PyTorch and torchvision. Everything is computed in double precision, so that rounding errors of
the reference are negligible. Takes half a minute.
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torchvision.ops import sigmoid_focal_loss

ROOT = Path(__file__).resolve().parents[4]
SIDE, PICTURES = 300, 2


def batch():
    """Two pictures of bent stripes, in whole numbers from -127 to 127."""
    picture, channel, y, x = torch.meshgrid(
        *(torch.arange(count) for count in (PICTURES, 3, SIDE, SIDE)), indexing="ij"
    )
    levels = x * (3 + picture) + y * (7 + channel) + x * y // 16 + 50 * channel
    return (levels % 255 - 127).double()


def targets(priors, classes):
    """Offsets from -2 to 2; classes of objects for every 73rd prior box, -1 for every 31st, 0 for the others."""
    index = torch.arange(PICTURES * priors)
    background = torch.where(index % 31 == 0, -1, 0)
    # From the fourteenth on, so that every source map has an object.
    of_priors = torch.where(index % 73 == 13, 1 + index % classes, background)
    offsets = (torch.arange(PICTURES * priors * 4) * 29 % 129 - 64) / 32
    return offsets.double().view(PICTURES, priors, 4), of_priors.view(PICTURES, priors)


def by_prior(maps, values):
    """The outputs of all sources, N x (boxes * values) x H x W each, as N x priors x values."""
    return torch.cat([one.permute(0, 2, 3, 1).reshape(len(one), -1, values) for one in maps], 1)


def mobilenet_v2(weights, x):
    """SSD on MobileNetV2 as TensorFlow builds it: offsets and logits."""

    def convolve(name, x, stride=1, activate=F.relu6):
        weight = weights[f"{name}.weight"]
        # TensorFlow's SAME padding: ceil(side / stride) outputs; an odd row or column of padding is below or right.
        total = max((-(-x.shape[-1] // stride) - 1) * stride + weight.shape[-1] - x.shape[-1], 0)
        before, after = total // 2, total - total // 2
        groups = x.shape[1] // weight.shape[1]
        x = F.pad(x, (before, after, before, after))
        return activate(F.conv2d(x, weight, weights[f"{name}.bias"], stride, groups=groups))

    def linear(x):
        return x

    x, sources = convolve("backbone.conv", x, 2), []
    for block in range(17):
        name, before = f"backbone.block_{block}", x
        # The first block has no expansion (its factor is 1, table 2).
        if block > 0:
            x = convolve(f"{name}.expand", x)
        if block == 13:
            sources.append(x)
        stride = 2 if block in (1, 3, 6, 13) else 1
        x = convolve(f"{name}.depthwise", x, stride)
        x = convolve(f"{name}.project", x, activate=linear)
        if x.shape == before.shape:
            x = x + before
    sources.append(convolve("backbone.last", x))
    for extra in range(4):
        x = convolve(f"extras.{extra}.reduce", sources[-1])
        sources.append(convolve(f"extras.{extra}.expand", x, 2))
    heads = [
        [convolve(f"heads.{nth}.{head}", source, activate=linear) for nth, source in enumerate(sources)]
        for head in ("offsets", "logits")
    ]
    return by_prior(heads[0], 4), by_prior(heads[1], 24)


def vgg16(weights, x):
    """SSD300 on VGG16, with the names of the original implementation: offsets and logits."""

    def convolve(name, x, **how):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **how)

    sources = []
    # The numbers in the names also count the ReLUs and max-pools between the convolutions.
    for layer in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
        x = F.relu(convolve(f"vgg.{layer}", x, padding=1))
        if layer == 21:
            scale = weights["L2Norm.weight"].view(1, -1, 1, 1)
            sources.append(scale * F.normalize(x, dim=1))
        if layer in (2, 7, 21):
            x = F.max_pool2d(x, 2)
        elif layer == 14:
            x = F.max_pool2d(x, 2, ceil_mode=True)
    x = F.max_pool2d(x, 3, stride=1, padding=1)
    x = F.relu(convolve("vgg.31", x, padding=6, dilation=6))
    sources.append(F.relu(convolve("vgg.33", x)))
    for extra, how in enumerate([{"stride": 2, "padding": 1}] * 2 + [{}] * 2):
        x = F.relu(convolve(f"extras.{2 * extra}", sources[-1]))
        sources.append(F.relu(convolve(f"extras.{2 * extra + 1}", x, **how)))
    heads = [
        [convolve(f"{head}.{nth}", source, padding=1) for nth, source in enumerate(sources)]
        for head in ("loc", "conf")
    ]
    return by_prior(heads[0], 4), by_prior(heads[1], 21)


def focal(logits, classes):
    """Lin et al. 2017: a sigmoid for each class except the background; prior boxes of class -1 are ignored."""
    targets = F.one_hot(classes.clamp(min=0), logits.shape[-1]).to(logits)
    losses = sigmoid_focal_loss(logits[..., 1:], targets[..., 1:], alpha=0.25, gamma=2)
    return losses[classes >= 0].sum()


def multibox(logits, classes):
    """Liu et al. 2016, section 2.2: the matched prior boxes, and three hard negatives for each of them."""
    matched, background = classes > 0, classes == 0
    positives = F.cross_entropy(logits[matched], classes[matched], reduction="sum")
    hardness = F.cross_entropy(logits[background], classes[background], reduction="none")
    hardness = hardness.sort(descending=True).values
    count = max(3 * int(matched.sum()), 6 * len(classes))
    gap = (hardness[count - 1] - hardness[count]) / hardness[count]
    # Single precision must select the same hard negatives.
    assert gap > 1e-5, f"the last negative is {gap:.1e} harder than the next: change the batch"
    return positives + hardness[:count].sum()


def golden(file, network, scale, classification):
    """The loss of the batch, and of each parameter's gradient the norm, the largest value and evenly spaced values."""
    weights = {name: values.double().requires_grad_() for name, values in load_file(ROOT / file).items()}
    offsets, logits = network(weights, batch() * scale)
    boxes, classes = targets(offsets.shape[1], logits.shape[2] - 1)
    matched = classes > 0
    localisation = F.smooth_l1_loss(offsets[matched], boxes[matched], reduction="sum")
    loss = (localisation + classification(logits, classes)) / matched.sum()
    loss.backward()
    gradients = {}
    for name, values in sorted(weights.items()):
        gradient = values.grad.flatten()
        assert gradient.any(), f"{name} has no gradient: change the batch"
        spaced = gradient[:: max(len(gradient) // 16, 1)][:16]
        gradients[name] = {
            "norm": rounded(gradient.norm()),
            "largest": rounded(gradient.abs().max()),
            "values": [rounded(value) for value in spaced],
        }
    return {"loss": rounded(loss), "gradients": gradients}


def rounded(value):
    """The value to nine digits, which are enough to compare with single precision."""
    return float(f"{value.item():.9g}")


if __name__ == "__main__":
    found = {
        "focal": golden("weights/ssd_mobilenet_v2_oidv4.safetensors", mobilenet_v2, 1 / 128, focal),
        "multibox": golden("server/tests/data/small.safetensors", vgg16, 1, multibox),
    }
    # One line for each parameter.
    text = json.dumps(found).replace('}, "', '},\n"').replace('{"', '{\n"', 3)
    print(text)
