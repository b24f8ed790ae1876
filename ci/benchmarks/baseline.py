"""What the server is measured against: the same network the way a lab writes it.

    baseline.py WEIGHTS.pth PORT

Flask's own threaded server, OpenCV, PyTorch as it comes, one process, basic authentication.
"""

import hmac
import sys

import cv2
import flask
import numpy
import torch

from ssd_reference import Predictor

app = flask.Flask(__name__)
predictor = None


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
    return flask.jsonify(predictions=predictor(picture))


if __name__ == "__main__":
    predictor = Predictor(torch.load(sys.argv[1], map_location="cpu"))
    app.run(host="127.0.0.1", port=int(sys.argv[2]))
