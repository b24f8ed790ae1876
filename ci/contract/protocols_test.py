"""Calls a running server with clients that others wrote for other protocols, and runs the examples of the documents.

The detections must be those of POST /predict, and the errors must have the server's words.
"""

import asyncio
import base64
import os
import pathlib
import re
import subprocess
import sys
import unittest
from urllib.parse import urlsplit

import httpx
import numpy
import requests
import yaml
from deepstack.core import DeepstackException, DeepstackObject
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from tritonclient import http as triton
from tritonclient.http.auth import BasicAuth
from tritonclient.utils import InferenceServerException

URL, USERNAME, PASSWORD = (os.environ[f"SSD_{name}"] for name in ("URL", "USERNAME", "PASSWORD"))
ADDRESS = urlsplit(URL)
MODEL = "ssd_mobilenet_v2_oidv4"
TENSORS = "labels", "scores", "boxes"
CRITERIA = {"threshold": 0.05, "iou": 0.3, "top_k": 3, "classes": "person,bottle"}
ROOT = pathlib.Path(__file__).parents[2]
SAMPLES = ROOT / "data/samples"
PICTURE = (SAMPLES / "astronaut.jpg").read_bytes()
DAMAGED = PICTURE[:1000]


def plain(picture=PICTURE, password=PASSWORD, **criteria):
    """The status and the body of a plain request."""
    response = requests.post(
        f"{URL}/predict", params=criteria, files={"image": picture}, auth=(USERNAME, password), timeout=60
    )
    return response.status_code, response.json()


def detections(**criteria):
    """The labels, scores and corners in the response to a plain request."""
    _, body = plain(**criteria)
    labels, scores, boxes = [], [], []
    for found in body["predictions"]:
        box = found["box"]
        labels.append(found["label"])
        scores.append(found["probability"])
        boxes.append([box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]])
    return labels, scores, boxes


def fault(**request):
    """The status and the words of the error that a plain request gets."""
    status, problem = plain(**request)
    return status, problem["detail"]


class Case(unittest.TestCase):
    def same(self, found, **criteria):
        """Compares (labels, scores, boxes) with those of a plain request."""
        labels, scores, boxes = found
        expected_labels, expected_scores, expected_boxes = detections(**criteria)
        self.assertGreater(len(expected_labels), 1)
        self.assertEqual([label.decode() if isinstance(label, bytes) else label for label in labels], expected_labels)
        numpy.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-5)
        # x and width are both rounded to hundredths, so their sum is off by 0.01 at most.
        numpy.testing.assert_allclose(boxes, expected_boxes, rtol=0, atol=0.011)


class Triton(Case):
    def setUp(self):
        self.client = self.connect(PASSWORD)

    def connect(self, password):
        client = triton.InferenceServerClient(ADDRESS.netloc)
        self.addCleanup(client.close)
        if password:
            client.register_plugin(BasicAuth(USERNAME, password))
        return client

    def image(self, *pictures, name="image", binary=True):
        pictures = pictures or (PICTURE,)
        elements = pictures if binary else [base64.b64encode(picture) for picture in pictures]
        image = triton.InferInput(name, [len(elements)], "BYTES")
        return image.set_data_from_numpy(numpy.array(elements, dtype=object), binary_data=binary)

    def infer(self, image, **options):
        return self.client.infer(MODEL, [image], **options)

    def fails(self, status, words, call, *arguments, **options):
        with self.assertRaises(InferenceServerException) as raised:
            call(*arguments, **options)
        self.assertEqual(raised.exception.status(), str(status))
        self.assertIn(words, raised.exception.message())
        # What the client says if the error is not in the form of the protocol.
        self.assertNotIn("an exception occurred in the client", raised.exception.message())

    def test_gets_the_detections_of_a_plain_request(self):
        for binary_input in True, False:
            for binary_output in True, False:
                with self.subTest(binary_input=binary_input, binary_output=binary_output):
                    outputs = [triton.InferRequestedOutput(name, binary_data=binary_output) for name in TENSORS]
                    result = self.infer(self.image(binary=binary_input), outputs=outputs)
                    self.same(map(result.as_numpy, TENSORS))
                    for name in TENSORS:
                        self.assertEqual("data" not in result.get_output(name), binary_output)

    def test_gets_all_outputs_if_it_names_none(self):
        result = self.infer(self.image())
        self.same(map(result.as_numpy, TENSORS))
        self.assertEqual({each["name"] for each in result.get_response()["outputs"]}, set(TENSORS))

    def test_gets_only_the_outputs_that_it_names(self):
        scores = triton.InferRequestedOutput("scores", binary_data=True)
        labels = triton.InferRequestedOutput("labels", binary_data=False)
        result = self.infer(self.image(), outputs=[scores, labels])
        self.assertEqual([each["name"] for each in result.get_response()["outputs"]], ["scores", "labels"])
        self.assertEqual(result.get_output("labels")["data"], detections()[0])
        self.assertNotIn("data", result.get_output("scores"))
        numpy.testing.assert_allclose(result.as_numpy("scores"), detections()[1], rtol=0, atol=1e-5)

    def test_sends_the_criteria_as_parameters(self):
        result = self.infer(self.image(), parameters=CRITERIA)
        self.same(map(result.as_numpy, TENSORS), **CRITERIA)
        self.assertNotEqual(detections(**CRITERIA), detections())

    def test_gets_empty_tensors_if_nothing_is_found(self):
        for binary in True, False:
            outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in TENSORS]
            result = self.infer(self.image(), outputs=outputs, parameters={"threshold": 1})
            self.assertEqual([result.as_numpy(name).shape for name in TENSORS], [(0,), (0,), (0, 4)])

    def test_gets_its_id_back(self):
        self.assertEqual(self.infer(self.image(), request_id="picture 7").get_response()["id"], "picture 7")
        response = self.infer(self.image()).get_response()
        self.assertEqual((response["model_name"], "id" in response), (MODEL, False))

    def test_reads_the_metadata(self):
        server = self.client.get_server_metadata()
        self.assertEqual((server["name"], server["extensions"]), ("ssd", ["binary_tensor_data"]))
        self.assertRegex(server["version"], r"^\d+\.\d+")
        model = self.client.get_model_metadata(MODEL)
        self.assertEqual(model["name"], MODEL)
        self.assertEqual(model["inputs"], [{"name": "image", "datatype": "BYTES", "shape": [1]}])
        self.assertEqual(
            {each["name"]: (each["datatype"], each["shape"]) for each in model["outputs"]},
            {"boxes": ("FP32", [-1, 4]), "scores": ("FP32", [-1]), "labels": ("BYTES", [-1])},
        )

    def test_sees_without_a_login_that_the_server_is_live_and_ready(self):
        client = self.connect(password=None)
        self.assertTrue(client.is_server_live())
        self.assertTrue(client.is_server_ready())
        self.fails(*fault(password="wrong"), client.get_server_metadata)

    def test_sees_which_model_is_ready(self):
        self.assertTrue(self.client.is_model_ready(MODEL))
        self.assertFalse(self.client.is_model_ready("other"))
        self.assertFalse(self.connect("wrong").is_model_ready(MODEL))

    def test_raises_the_words_of_the_server(self):
        for picture in b"", b"no picture", DAMAGED:
            self.fails(*fault(picture=picture), self.infer, self.image(picture))
        self.fails(*fault(password="wrong"), self.connect("wrong").infer, MODEL, [self.image()])
        self.fails(404, "other", self.client.infer, "other", [self.image()])
        self.fails(404, "other", self.client.get_model_metadata, "other")
        self.fails(404, "", self.client.infer, MODEL, [self.image()], model_version="1")
        self.fails(404, "", self.client.get_model_config, MODEL)
        self.fails(400, "image", self.client.infer, MODEL, [])
        self.fails(400, "image", self.client.infer, MODEL, [self.image(), self.image()])
        self.fails(400, "image", self.infer, self.image(PICTURE, PICTURE))
        self.fails(400, "photo", self.infer, self.image(name="photo"))
        self.fails(400, "faces", self.infer, self.image(), outputs=[triton.InferRequestedOutput("faces")])
        self.fails(400, "treshold", self.infer, self.image(), parameters={"treshold": 0.5})
        self.fails(400, "top_k", self.infer, self.image(), parameters={"top_k": 0})
        self.fails(400, "unicorn", self.infer, self.image(), parameters={"classes": "unicorn"})
        self.fails(415, "gzip", self.infer, self.image(), request_compression_algorithm="gzip")


class KServe(Case):
    def call(self, method, *arguments, password=PASSWORD, **options):
        async def run():
            async with InferenceRESTClient(RESTConfig(protocol="v2", auth=(USERNAME, password))) as client:
                return await getattr(client, method)(URL, *arguments, **options)

        return asyncio.run(run())

    def request(self, picture=PICTURE, binary=True, outputs=None, **parameters):
        image = InferInput("image", [1], "BYTES", data=[base64.b64encode(picture).decode()])
        if binary:
            image.set_data_from_numpy(numpy.array([picture], dtype=object))
        return InferRequest(MODEL, [image], parameters=parameters, request_outputs=outputs)

    def infer(self, request, model=MODEL, **options):
        response = self.call("infer", request, model_name=model, **options)
        return {each.name: each.as_numpy() for each in response.outputs}

    def fails(self, status, words, request, **options):
        with self.assertRaises(httpx.HTTPStatusError) as raised:
            self.infer(request, **options)
        self.assertEqual(raised.exception.response.status_code, status)
        self.assertIn(words, str(raised.exception))

    def test_gets_the_detections_of_a_plain_request(self):
        for binary_input in True, False:
            for binary_output in True, False:
                with self.subTest(binary_input=binary_input, binary_output=binary_output):
                    found = self.infer(self.request(binary=binary_input, binary_data_output=binary_output))
                    self.same(found[name] for name in TENSORS)

    def test_gets_the_detections_of_a_data_url(self):
        data = ["data:image/jpeg;base64," + base64.b64encode(PICTURE).decode()]
        found = self.infer({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": data}]})
        self.same(found[name] for name in TENSORS)

    def test_gets_only_the_outputs_that_it_names(self):
        outputs = [RequestedOutput("labels", {"binary_data": True}), RequestedOutput("scores")]
        found = self.infer(self.request(outputs=outputs))
        self.assertEqual(list(found), ["labels", "scores"])
        self.assertEqual(list(found["labels"]), detections()[0])

    def test_sends_the_criteria_as_parameters(self):
        found = self.infer(self.request(**CRITERIA))
        self.same((found[name] for name in TENSORS), **CRITERIA)

    def test_gets_empty_tensors_if_nothing_is_found(self):
        for binary in True, False:
            found = self.infer(self.request(threshold=1, binary_data_output=binary))
            self.assertEqual([found[name].shape for name in TENSORS], [(0,), (0,), (0, 4)])

    def test_sees_that_the_server_and_its_model_are_live_and_ready(self):
        self.assertIs(self.call("is_server_live"), True)
        self.assertIs(self.call("is_server_ready"), True)
        self.assertIs(self.call("is_model_ready", MODEL), True)
        self.assertIs(self.call("is_model_ready", "other"), False)

    def test_raises_the_words_of_the_server(self):
        for picture in b"", DAMAGED:
            self.fails(*fault(picture=picture), self.request(picture))
        self.fails(*fault(password="wrong"), self.request(), password="wrong")
        # With the marks, because the error also has the address.
        self.fails(404, "`other`", self.request(), model="other")
        self.fails(400, "treshold", self.request(treshold=0.5))


class DeepStack(Case):
    ADDRESS = f"{URL}/v1/vision/detection"

    def client(self, password=PASSWORD, confidence=0.1):
        host = f"{USERNAME}:{password}@{ADDRESS.hostname}"
        return DeepstackObject(host, ADDRESS.port, min_confidence=confidence)

    def same(self, found, **criteria):
        """Compares predictions with those of a plain request. Their corners are whole pixels."""
        labels, scores, boxes = detections(**criteria)
        self.assertGreater(len(labels), 1)
        self.assertEqual([each["label"] for each in found], labels)
        numpy.testing.assert_allclose([each["confidence"] for each in found], scores, rtol=0, atol=1e-5)
        corners = [[each[name] for name in ("x_min", "y_min", "x_max", "y_max")] for each in found]
        self.assertEqual({type(number) for row in corners for number in row}, {int})
        numpy.testing.assert_allclose(corners, boxes, rtol=0, atol=0.511)

    def test_gets_the_detections_of_a_plain_request(self):
        self.same(self.client().detect(PICTURE), threshold=0.1)

    def test_selects_by_its_least_confidence(self):
        self.same(self.client(confidence=0.3).detect(PICTURE), threshold=0.3)

    def test_raises_the_status(self):
        for client, picture, status in (
            (self.client(), DAMAGED, 422),
            (self.client(), b"", 400),
            (self.client(confidence=2), PICTURE, 400),
            (self.client(password="wrong"), PICTURE, 401),
        ):
            with self.assertRaisesRegex(DeepstackException, f"status code: {status}"):
                client.detect(picture)

    def test_has_errors_in_the_words_of_the_server(self):
        image = ("image", PICTURE)
        for files, password, status, words in (
            ([("image", DAMAGED)], PASSWORD, *fault(picture=DAMAGED)),
            ([image, image], PASSWORD, 400, "more than one field `image`"),
            ([("file", PICTURE)], PASSWORD, 400, "no field `image`"),
            ([image], "wrong", *fault(password="wrong")),
        ):
            response = requests.post(self.ADDRESS, files=files, auth=(USERNAME, password), timeout=60)
            body = response.json()
            self.assertEqual((response.status_code, body["success"]), (status, False))
            self.assertIn(words, body["error"])

    def test_answers_the_request_of_frigate(self):
        [detector] = yaml.safe_load(example("clients.md", "DeepStack", "yaml"))["detectors"].values()
        self.assertEqual(detector["type"], "deepstack")
        address = urlsplit(detector["api_url"])
        self.assertEqual((address.username, address.password), ("ugain", "ugain"))
        # As in Frigate's plugin: the login is in the URL, an empty key comes before the picture, and nothing states the
        # type of the picture.
        here = address._replace(netloc=f"{USERNAME}:{PASSWORD}@{ADDRESS.netloc}").geturl()
        response = requests.post(here, data={"api_key": ""}, files={"image": PICTURE}, timeout=60)
        self.assertEqual(response.status_code, 200)
        found = response.json()
        self.assertIs(found["success"], True)
        query = dict(pair.split("=") for pair in address.query.split("&"))
        self.same(found["predictions"], **query)
        # Frigate stops at the first prediction that it does not want, and has room for 20.
        scores = [each["confidence"] for each in found["predictions"]]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertEqual(query["top_k"], "20")


def example(document, heading, language):
    """The one block of this language under a heading of a document."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    [block] = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return block


class Examples(unittest.TestCase):
    def run_example(self, document, heading, language):
        """What the example of a document prints."""
        program = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
        ran = subprocess.run(
            [*program, example(document, heading, language)],
            cwd=SAMPLES,
            env={**os.environ, "SSD_MODEL": MODEL},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return ran.stdout

    def test_print_the_detections(self):
        _, body = plain((SAMPLES / "cat.png").read_bytes())
        first = body["predictions"][0]
        self.assertEqual(first["label"], "cat")
        for document, heading in [("clients.md", "Open Inference Protocol"), ("kserve.md", "Calls")]:
            name, score, *_ = self.run_example(document, heading, "python").split()
            self.assertEqual(name, "cat")
            self.assertAlmostEqual(float(score), first["probability"], delta=1e-5)
        for text, document, heading in [
            ('"cat"', "kserve.md", "Calls"),
            ('"cat"', "clients.md", "JSON"),
            ('"cat"', "clients.md", "DeepStack"),
            (f'"{MODEL}"', "clients.md", "Open Inference Protocol"),
        ]:
            self.assertIn(text, self.run_example(document, heading, "bash"))


unittest.main()
