"""The baseline of the benchmarks: the same network in a simple Flask application.

    baseline.py WEIGHTS.pth PORT

Flask's own threaded server, OpenCV, PyTorch with its defaults, one process, basic authentication.
"""

import hmac
import sys
import threading
import time

import cv2
import flask
import numpy
import torch

from ssd_reference import Predictor

app = flask.Flask(__name__)
predictor = None


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
    predictor.net = Timed(predictor.net)
    app.run(host="127.0.0.1", port=int(sys.argv[2]))
