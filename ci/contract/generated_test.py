"""Calls a running server with the client generated from its OpenAPI document."""

import base64
import io
import os
import pathlib
import unittest

import requests
from client import AuthenticatedClient
from client.api.detection import predict
from client.models import PredictFilesBody, Prediction, Problem
from client.types import File

URL, USERNAME, PASSWORD = (os.environ[f"SSD_{name}"] for name in ("URL", "USERNAME", "PASSWORD"))
PICTURE = pathlib.Path(__file__).parents[2] / "data/samples/astronaut.jpg"


def call(picture, username=USERNAME, fields=None, **parameters):
    token = base64.b64encode(f"{username}:{PASSWORD}".encode()).decode()
    body = PredictFilesBody(image=File(io.BytesIO(picture), file_name="picture"), **(fields or {}))
    with AuthenticatedClient(base_url=URL, token=token, prefix="Basic", raise_on_unexpected_status=True) as client:
        return predict.sync_detailed(client=client, body=body, **parameters)


class Generated(unittest.TestCase):
    def test_gets_the_response_of_a_plain_request(self):
        for parameters in {}, {"threshold": 0.05, "iou": 0.3, "top_k": 2}:
            plain = requests.post(
                f"{URL}/predict",
                params=parameters,
                files={"image": PICTURE.read_bytes()},
                auth=(USERNAME, PASSWORD),
                timeout=60,
            )
            for response in call(PICTURE.read_bytes(), **parameters), call(PICTURE.read_bytes(), fields=parameters):
                self.assertIsInstance(response.parsed, Prediction)
                self.assertEqual(response.parsed.to_dict(), plain.json())
                self.assertGreater(response.parsed.predictions[0].box.width, 0)

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
