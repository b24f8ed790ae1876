"""The baseline of the benchmarks: the same network in a simple Flask application.

    baseline.py WEIGHTS.pth PORT [PRECISION]

Flask's own threaded server, OpenCV, PyTorch with its defaults, one process, basic authentication. With a precision
(f32, bf16 or int8), OpenVINO runs the network instead of PyTorch.
"""

import hmac
import os
import pathlib
import sys
import threading
import time

import cv2
import flask
import numpy
import torch

from ssd_reference import Predictor, preprocess

SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "data/samples"

app = flask.Flask(__name__)
predictor = None


class OpenVino(torch.nn.Module):
    """Runs a network with OpenVINO, on one thread per core."""

    def __init__(self, network, precision):
        import openvino

        super().__init__()
        shape = [1, 3, 300, 300]
        model = openvino.convert_model(network, example_input=torch.zeros(shape), input=shape)
        if precision == "int8":
            import nncf

            pictures = [preprocess(cv2.imread(str(path))).numpy() for path in sorted(SAMPLES.glob("*.[jp][pn]g"))]
            model = nncf.quantize(model, nncf.Dataset(pictures), subset_size=len(pictures))
        hints = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision,
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
        self.lock = threading.Lock()

    def forward(self, values):
        with self.lock:
            self.request.infer({0: values.numpy()})
            return [torch.from_numpy(self.request.get_output_tensor(i).data.copy()) for i in (0, 1)]


class Timed(torch.nn.Module):
    """Runs a network, and keeps the milliseconds of the last forward pass on this thread."""

    def __init__(self, network):
        super().__init__()
        self.network, self.last = network, threading.local()

    def forward(self, values):
        start = time.perf_counter()
        output = self.network(values)
        self.last.milliseconds = (time.perf_counter() - start) * 1e3
        return output


def allowed(login):
    return (
        login is not None
        and hmac.compare_digest(login.username or "", "ugain")
        and hmac.compare_digest(login.password or "", "ugain")
    )


@app.get("/readyz")
def ready():
    return "ready\n"


@app.post("/predict")
def predict():
    if not allowed(flask.request.authorization):
        return flask.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="ssd"'})
    if "image" in flask.request.files:
        body = flask.request.files["image"].read()
    else:
        body = flask.request.get_data()
    picture = cv2.imdecode(numpy.frombuffer(body, numpy.uint8), cv2.IMREAD_COLOR)
    response = flask.jsonify(predictions=predictor(picture))
    response.headers["Server-Timing"] = f"forward;dur={predictor.net.last.milliseconds}"
    return response


if __name__ == "__main__":
    predictor = Predictor(torch.load(sys.argv[1], map_location="cpu"))
    if len(sys.argv) > 3:
        predictor.net = OpenVino(predictor.net, sys.argv[3])
    predictor.net = Timed(predictor.net)
    app.run(host="127.0.0.1", port=int(sys.argv[2]))
