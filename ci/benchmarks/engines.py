"""Runs one of the benchmarks' networks in one engine, in a process of its own.

    engines.py ENGINE PRECISION FOLDER NETWORK WEIGHTS THREADS

FOLDER has what `prepare` writes. Prints the largest difference of the scores from PyTorch's in single precision; then,
for each line that it reads, runs a pass and prints its milliseconds.
"""

import importlib.metadata
import pathlib
import subprocess
import sys
import time

import numpy as np

SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "data/samples"


def prepare(folder, network, weights):
    """Writes what the engines share: an input, PyTorch's scores of it, and the network as ONNX."""
    import torch

    import networks

    model = networks.BY_NAME[network](weights)
    values = network_input(network, "cat.png")
    with torch.inference_mode():
        _, scores = model(torch.from_numpy(values))
    np.save(folder / "input.npy", values)
    np.save(folder / "scores.npy", scores.numpy())
    options = {"input_names": ["input"], "output_names": ["offsets", "scores"], "dynamo": False}
    torch.onnx.export(model, torch.from_numpy(values), str(folder / "network.onnx"), **options)


def network_input(network, name):
    """A bundled picture as the network's input, 1 x 3 x 300 x 300."""
    import cv2

    import ssd_reference

    picture = cv2.imread(str(SAMPLES / name))
    if network == "ssd300":
        return ssd_reference.preprocess(picture).numpy()
    resized = cv2.resize(picture, (300, 300), interpolation=cv2.INTER_LINEAR)[:, :, ::-1]
    return np.ascontiguousarray((resized.astype("f") / 127.5 - 1).transpose(2, 0, 1)[None])


def pytorch(precision, folder, network, weights, threads):
    import torch

    import networks

    torch.set_num_threads(threads)
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = networks.BY_NAME[network](weights).to(kind, memory_format=torch.channels_last)

    def run(values):
        with torch.inference_mode():
            values = torch.from_numpy(values).to(kind, memory_format=torch.channels_last)
            return model(values)[1].float().numpy()

    return run


def openvino(precision, folder, network, weights, threads):
    import openvino as ov

    model = ov.convert_model(folder / "network.onnx")
    if precision == "int8":
        import nncf

        pictures = [network_input(network, path.name) for path in sorted(SAMPLES.glob("*.[jp][pn]g"))]
        model = nncf.quantize(model, nncf.Dataset(pictures), subset_size=len(pictures))
    hints = {
        "INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(model, "CPU", hints).create_infer_request()

    def run(values):
        request.infer({0: values})
        return request.get_output_tensor(1).data

    return run


def onnxruntime(precision, folder, network, weights, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(folder / "network.onnx", options, providers=["CPUExecutionProvider"])
    return lambda values: session.run(["scores"], {"input": values})[0]


def opencv(precision, folder, network, weights, threads):
    import cv2

    cv2.setNumThreads(threads)
    # OpenCV's older engine: its newer one has no Winograd convolution.
    net = cv2.dnn.readNetFromONNX(str(folder / "network.onnx"), cv2.dnn.ENGINE_CLASSIC)

    def run(values):
        net.setInput(values)
        return net.forward(["scores"])[0]

    return run


def ncnn(precision, folder, network, weights, threads):
    import ncnn
    import pnnx
    import torch

    import networks

    model = networks.BY_NAME[network](weights)
    values = torch.from_numpy(np.load(folder / "input.npy"))
    at = folder / f"{network}.pt"
    pnnx.export(model, str(at), (values,), fp16=False)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = precision == "bf16"
    stem = str(at.with_name(network.replace("-", "_")))
    net.load_param(stem + ".ncnn.param")
    net.load_model(stem + ".ncnn.bin")

    def run(values):
        with net.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(values[0]).clone())
            # Both outputs, as the others compute them.
            extractor.extract("out0")
            return np.array(extractor.extract("out1")[1])[None]

    return run


def litert(precision, folder, network, weights, threads):
    import mobilenet

    run = mobilenet.litert(str(folder / "model.tflite"), threads)
    return lambda values: 1 / (1 + np.exp(-run(values[0].transpose(1, 2, 0))[1]))[None]


# The function of an engine, its package, and its precisions.
ENGINES = {
    "ncnn": (ncnn, "ncnn", ["f32", "bf16"]),
    "OpenVINO": (openvino, "openvino", ["f32", "bf16", "int8"]),
    "onnxruntime": (onnxruntime, "onnxruntime", ["f32"]),
    "OpenCV": (opencv, "opencv-python-headless", ["f32"]),
    "LiteRT": (litert, "ai-edge-litert", ["f32"]),
    "PyTorch": (pytorch, "torch", ["f32", "bf16"]),
}


class Worker:
    """This program in a process of its own."""

    def __init__(self, engine, precision, folder, network, weights, threads):
        self.precision, self.log = precision, folder / f"{engine}-{precision}.log"
        arguments = [engine, precision, folder, network, weights, threads]
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, *map(str, arguments)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )
        self.name, self.error = engine, None
        try:
            self.name = f"{engine} {importlib.metadata.version(ENGINES[engine][1])}"
            self.difference = self.number()
        except (importlib.metadata.PackageNotFoundError, EOFError):
            lines = self.log.read_text(encoding="utf-8").strip().splitlines()
            self.error = lines[-1] if lines else "it ended"

    def number(self):
        """The next number that the process prints, between whatever else its packages print."""
        for line in self.process.stdout:
            try:
                return float(line)
            except ValueError:
                pass
        raise EOFError

    def run(self):
        """Milliseconds of a pass."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.number()

    def stop(self):
        self.process.kill()
        self.process.wait()


def main(engine, precision, folder, network, weights, threads):
    folder = pathlib.Path(folder)
    run = ENGINES[engine][0](precision, folder, network, weights, int(threads))
    values, expected = np.load(folder / "input.npy"), np.load(folder / "scores.npy")
    print(float(np.abs(run(values).reshape(expected.shape) - expected).max()), flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        run(values)
        print((time.perf_counter() - begun) * 1e3, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
