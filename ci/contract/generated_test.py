"""Calls a running server with the client generated from its OpenAPI document."""

import base64
import io
import os
import pathlib
import unittest

import requests
from client import AuthenticatedClient
from client.api.deep_stack import vision_detection
from client.api.detection import predict
from client.api.open_inference import inference_infer
from client.api.server import model
from client.models import (
    InferenceInput,
    InferenceRequest,
    Model,
    PredictFilesBody,
    Prediction,
    PredictJsonBody,
    Problem,
    VisionDetectionBody,
)
from client.types import File

URL, USERNAME, PASSWORD = (os.environ[f"SSD_{name}"] for name in ("URL", "USERNAME", "PASSWORD"))
PICTURE = pathlib.Path(__file__).parents[2] / "data/samples/astronaut.jpg"


def connect(username=USERNAME):
    token = base64.b64encode(f"{username}:{PASSWORD}".encode()).decode()
    return AuthenticatedClient(base_url=URL, token=token, prefix="Basic", raise_on_unexpected_status=True)


def file(picture):
    return File(io.BytesIO(picture), file_name="picture")


def call(picture, username=USERNAME, fields=None, **parameters):
    body = PredictFilesBody(image=file(picture), **(fields or {}))
    with connect(username) as client:
        return predict.sync_detailed(client=client, body=body, **parameters)


class Generated(unittest.TestCase):
    def test_gets_the_response_of_a_plain_request(self):
        for parameters in {}, {"threshold": 0.05, "iou": 0.3, "top_k": 2, "classes": ["person", "car"]}:
            query = {name: ",".join(value) if name == "classes" else value for name, value in parameters.items()}
            plain = requests.post(
                f"{URL}/predict",
                params=query,
                files={"image": PICTURE.read_bytes()},
                auth=(USERNAME, PASSWORD),
                timeout=60,
            )
            encoded = PredictJsonBody(image=base64.b64encode(PICTURE.read_bytes()).decode(), **parameters)
            with connect() as client:
                by_json = predict.sync_detailed(client=client, body=encoded)
            for response in call(PICTURE.read_bytes(), **parameters), call(PICTURE.read_bytes(), fields=parameters), by_json:
                self.assertIsInstance(response.parsed, Prediction)
                self.assertEqual(response.parsed.to_dict(), plain.json())
                self.assertGreater(response.parsed.predictions[0].box.width, 0)

    def test_knows_the_other_operations(self):
        picture = PICTURE.read_bytes()
        found = call(picture).parsed.predictions
        with connect() as client:
            self.assertIsInstance(about := model.sync(client=client), Model)
            self.assertIn("person", about.classes)
            body = VisionDetectionBody(image=file(picture))
            vision = vision_detection.sync(client=client, body=body)
            self.assertEqual([each.label for each in vision.predictions], [each.label for each in found])
            data = [base64.b64encode(picture).decode()]
            request = InferenceRequest(inputs=[InferenceInput(name="image", shape=[1], datatype="BYTES", data=data)])
            outputs = inference_infer.sync(name=about.name, client=client, body=request).outputs
            self.assertEqual(outputs[2].data, [each.label for each in found])

    def test_has_errors_as_problem_details(self):
        for picture, changes, status, kind in (
            (b"", {}, 400, "empty-image"),
            (b"", {"top_k": 0}, 400, "bad-query"),
            (b"", {"fields": {"top_k": 0}}, 400, "bad-field"),
            (b"", {"username": "nobody"}, 401, "unauthorized"),
            (b"no picture", {}, 415, "unsupported-picture"),
            (PICTURE.read_bytes()[:1000], {}, 422, "undecodable-picture"),
        ):
            response = call(picture, **changes)
            self.assertIsInstance(response.parsed, Problem)
            self.assertEqual((response.status_code, response.parsed.status), (status, status))
            self.assertEqual(response.parsed.type_.value, f"urn:ssd:problem:{kind}")


unittest.main()
