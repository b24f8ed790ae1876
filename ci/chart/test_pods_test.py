"""Runs the commands of the pods of `helm test` against a server on loopback."""

import base64
import http.server
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import unittest

import yaml

CHART = pathlib.Path(__file__).parents[2] / "charts/ssd"
GOOD = {"Authorization": "Basic " + base64.b64encode(b"me:pass: word").decode()}


class Server(http.server.BaseHTTPRequestHandler):
    """Responds as the real server does. Tests make it misbehave by the attributes."""

    protocol_version = "HTTP/1.1"
    ready, refusal, challenge, label = 200, 401, 'Basic realm="ssd", charset="UTF-8"', "cat"

    def do_GET(self):
        self.respond(Server.ready if self.path == "/readyz" else 404, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != GOOD["Authorization"]:
            self.respond(Server.refusal, {}, {"WWW-Authenticate": Server.challenge})
        elif self.path != "/predict" or b'name="image"' not in body or b"\xff\xd8\xff" not in body:
            self.respond(400, {"detail": "no picture"})
        else:
            self.respond(200, {"model": "ssd_mobilenet_v2_oidv4", "predictions": [{"label": Server.label, "probability": 0.98}]})

    def respond(self, status, content, headers=None):
        body = json.dumps(content, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class TestPods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        rendered = subprocess.run(["helm", "template", "ssd", str(CHART)], capture_output=True, text=True, check=True)
        objects = [o for o in yaml.safe_load_all(rendered.stdout) if "helm.sh/hook" in o["metadata"].get("annotations", {})]
        cls.pods = {o["metadata"]["name"]: o for o in objects if o["kind"] == "Pod"}
        sample = next(o for o in objects if o["kind"] == "ConfigMap")["binaryData"]["sample.jpg"]
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.sample = pathlib.Path(folder.name) / "sample.jpg"
        cls.sample.write_bytes(base64.b64decode(sample))

    def setUp(self):
        Server.ready, Server.refusal, Server.challenge, Server.label = 200, 401, 'Basic realm="ssd"', "cat"
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}"

    def run_pod(self, name, username="me", password="pass: word"):
        container = self.pods[name]["spec"]["containers"][0]
        # One retry, since the waiting is not tested.
        script = container["args"][0].replace("/etc/ssd-test/sample.jpg", str(self.sample)).replace("--retry 10", "--retry 1")
        return subprocess.run(
            [*container["command"], script], capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": os.environ["PATH"], "NO_PROXY": "*", "URL": self.url,
                 "SECRET_USERNAME": username, "SECRET_PASSWORD": password})

    def assert_passes(self, run):
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertIn("PASS", run.stdout)

    def assert_fails(self, run):
        self.assertNotEqual(run.returncode, 0, run.stdout)
        self.assertNotIn("PASS", run.stdout)

    def test_every_pod_passes(self):
        self.assertEqual(set(self.pods), {"ssd-test-ready", "ssd-test-unauthorized", "ssd-test-prediction"})
        for name in self.pods:
            with self.subTest(name):
                self.assert_passes(self.run_pod(name))

    def test_fails_when_the_server_is_not_ready(self):
        Server.ready = 503
        self.assert_fails(self.run_pod("ssd-test-ready"))

    def test_fails_when_a_prediction_needs_no_credentials(self):
        Server.refusal = 200
        self.assert_fails(self.run_pod("ssd-test-unauthorized"))

    def test_fails_when_the_401_does_not_ask_for_basic_authentication(self):
        Server.challenge = "Bearer"
        self.assert_fails(self.run_pod("ssd-test-unauthorized"))

    def test_fails_when_the_prediction_has_another_label(self):
        Server.label = "dog"
        self.assert_fails(self.run_pod("ssd-test-prediction"))

    def test_fails_when_the_credentials_are_wrong(self):
        self.assert_fails(self.run_pod("ssd-test-prediction", password="other"))

    def test_fails_when_no_server_listens(self):
        self.url = "http://127.0.0.1:1"
        for name in self.pods:
            with self.subTest(name):
                self.assert_fails(self.run_pod(name))


if __name__ == "__main__":
    unittest.main()
