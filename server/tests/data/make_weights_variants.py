"""Writes the files that the tests in server/state-dict read. Usage: make_weights_variants.py (needs torch 2.13, numpy and
safetensors). The numbers in the .json files come from torch, not from the code under test.

small-weights.json   the contents of small-legacy.pth: shapes, CRC-32 of the bytes, sums
variants-*.pth       one state dict with every element type, stride and nesting worth a test, saved in several ways
variants.safetensors its tensors in safetensors
variants.json        its contents
"""
import collections, json, pathlib, zlib
import torch
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
torch.manual_seed(7)


def facts(tensor):
    flat = tensor.detach().contiguous().flatten()
    values = [float(v) for v in flat.to(torch.float64)]
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "values": [v if v == v and abs(v) != float("inf") else str(v) for v in values],
    }


def small():
    state = torch.load(here / "small-legacy.pth", weights_only=True)
    golden = {}
    for name, tensor in state.items():
        raw = tensor.contiguous().numpy().tobytes()
        golden[name] = {
            "shape": list(tensor.shape),
            "crc32": zlib.crc32(raw),
            "sum": tensor.double().sum().item(),
            "min": tensor.min().item(),
            "max": tensor.max().item(),
        }
    (here / "small-weights.json").write_text(json.dumps(golden, indent=0) + "\n")


def variants():
    base = torch.arange(12, dtype=torch.float32) / 7
    tagged = torch.tensor([1.5, 2.5])
    tagged.note = "attributes make torch.save write _rebuild_from_type_v2"
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    tensors = collections.OrderedDict(
        {
            "bool": torch.tensor([True, False, True]),
            "uint8": torch.tensor([0, 1, 255], dtype=torch.uint8),
            "int8": torch.tensor([-128, 127], dtype=torch.int8),
            "int16": torch.tensor([-32768, 32767], dtype=torch.int16),
            "uint16": torch.tensor([0, 65535], dtype=torch.uint16),
            "int32": torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32),
            "uint32": torch.tensor([0, 2**32 - 1], dtype=torch.uint32),
            "int64": torch.tensor([-(2**40), 2**52 + 1], dtype=torch.int64),
            "uint64": torch.tensor([1, 2**52], dtype=torch.uint64),
            "float16": torch.tensor([0.1, -65504.0, float("inf")], dtype=torch.float16),
            "bfloat16": torch.tensor([0.1, 3e38, float("nan")], dtype=torch.bfloat16),
            "float32": torch.tensor([0.1, -3.4e38, 1e-45]),
            "float64": torch.tensor([0.1, 1e-3, 1e30], dtype=torch.float64),
            "scalar": torch.tensor(3.25),
            "empty": torch.zeros(0, 4),
            "matrix": base.view(3, 4),
            "transposed": base.view(3, 4).t(),
            "column": base.view(3, 4)[:, 1],
            "block": base.view(3, 4)[1:, 1:3],
            "permuted": base.view(2, 3, 2).permute(2, 0, 1),
            "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 3),
            "tied": base.view(4, 3),
            "parameter": torch.nn.Parameter(torch.tensor([4.0, 5.0])),
            "tagged": tagged,
            "buffer": torch.nn.Buffer(torch.tensor([6.0])),
        }
    )
    optimizer = {"state": {0: {"step": 3, "momentum": torch.tensor([0.5])}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    checkpoint = {
        "epoch": 3,
        "best": 0.75,
        "note": "né à Zürich",
        "raw": b"\x00\xff",
        "classes": {"cat", "dog"},
        "none": None,
        "flags": (True, False),
        "big": 2**70,
        "device": torch.device("cuda", 0),
        "dtype": torch.float16,
        "layout": torch.strided,
        "size": torch.Size([1, 2]),
        "state_dict": tensors,
        "model": module.state_dict(),
        "optimizer": optimizer,
        "history": [torch.tensor([1.0]), [torch.tensor([2.0])]],
    }
    flat = {f"state_dict.{k}": v for k, v in tensors.items()}
    flat |= {f"model.{k}": v for k, v in module.state_dict().items()}
    flat |= {
        "optimizer.state.0.momentum": optimizer["state"][0]["momentum"],
        "history.0": checkpoint["history"][0],
        "history.1.0": checkpoint["history"][1][0],
    }
    (here / "variants.json").write_text(json.dumps({k: facts(v) for k, v in flat.items()}, indent=0) + "\n")
    for protocol in (1, 3, 4):
        path = here / f"variants-legacy-protocol{protocol}.pth"
        torch.save(checkpoint, path, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    for protocol in (2, 5):
        torch.save(checkpoint, here / f"variants-zip-protocol{protocol}.pth", pickle_protocol=protocol)
    plain = {k: v.detach().clone().contiguous() for k, v in flat.items()}
    save_file(plain, here / "variants.safetensors", metadata={"format": "pt", "classes": "cat\ndog"})


small()
variants()
