"""Runs a program of docs/clients.md: clients_test.py EXTENSION.

Against the server of SSD_URL, SSD_USERNAME and SSD_PASSWORD, and against servers with scripted responses.
"""

import http.server
import os
import pathlib
import subprocess
import sys
import threading
import unittest

import requests

ROOT = pathlib.Path(__file__).parents[2]
PICTURE = ROOT / "data/samples/astronaut.jpg"
PROGRAMS = {
    "sh": [ROOT / "server/examples/client.sh"],
    "py": [sys.executable, ROOT / "server/examples/client.py"],
    "mjs": ["node", ROOT / "server/examples/client.mjs"],
    "rs": [ROOT / "target/debug/examples/client"],
}
PROGRAM = PROGRAMS[sys.argv.pop()]
BUSY = 429, {"Retry-After": "1"}, "application/problem+json", b'{"title": "Busy", "detail": "Come back later."}'
NOT_READY = 503, {"Retry-After": "1"}, "application/problem+json", b'{"title": "Loading", "detail": "Soon."}'
FOUND = 200, {}, "application/json", (
    b'{"model": "m", "image": {"width": 9, "height": 9}, "predictions": [{"label": "dining table",'
    b' "probability": 0.5, "box": {"x": 1.25, "y": 2.5, "width": 3.75, "height": 4.0}}]}'
)
FROM_A_PROXY = 403, {}, "text/html", b"<html>forbidden</html>"


def run(url, username, password):
    environment = {**os.environ, "SSD_URL": url, "SSD_USERNAME": username, "SSD_PASSWORD": password}
    return subprocess.run([*PROGRAM, PICTURE], env=environment, capture_output=True, text=True, timeout=60)


def objects(printed):
    """The printed objects, with parsed numbers: languages print them differently."""
    lines = (line.split("\t") for line in printed.splitlines())
    return [(label, *map(float, numbers)) for label, *numbers in lines]


class Server(http.server.ThreadingHTTPServer):
    """Sends one response after the other, and the last one forever; keeps the requests."""

    def __init__(self, *responses):
        super().__init__(("127.0.0.1", 0), Handler)
        self.responses, self.requests = list(responses), []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers, body))
        left = self.server.responses
        status, headers, media, content = left.pop(0) if len(left) > 1 else left[0]
        self.send_response(status)
        for name, value in {"Content-Type": media, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Client(unittest.TestCase):
    def fails(self, ran, *texts):
        self.assertNotEqual(ran.returncode, 0)
        self.assertEqual(ran.stdout, "")
        for text in texts:
            self.assertIn(text, ran.stderr)

    def test_prints_the_detections(self):
        url, login = os.environ["SSD_URL"], (os.environ["SSD_USERNAME"], os.environ["SSD_PASSWORD"])
        response = requests.post(f"{url}/predict", files={"image": PICTURE.read_bytes()}, auth=login, timeout=60).json()
        ran = run(url, *login)
        self.assertEqual((ran.stderr, ran.returncode), ("", 0))
        expected = [
            (found["label"], found["probability"], *(found["box"][side] for side in ("x", "y", "width", "height")))
            for found in response["predictions"]
        ]
        self.assertGreater(len(expected), 1)
        self.assertEqual(objects(ran.stdout), expected)

    def test_prints_the_problem_of_the_server(self):
        ran = run(os.environ["SSD_URL"], "nobody", "secret")
        self.fails(ran, "The user name or password is missing or wrong: Send the user name and password by HTTP basic")

    def test_sends_the_picture_and_a_login_in_utf_8(self):
        with Server(FOUND) as server:
            ran = run(server.url, "grüße", "pass:wörd")
        self.assertEqual((ran.stderr, ran.returncode), ("", 0))
        self.assertEqual(objects(ran.stdout), [("dining table", 0.5, 1.25, 2.5, 3.75, 4.0)])
        [(path, headers, body)] = server.requests
        self.assertEqual((path, headers["Authorization"]), ("/predict", "Basic Z3LDvMOfZTpwYXNzOnfDtnJk"))
        self.assertTrue(headers["Content-Type"].startswith("multipart/form-data; boundary="))
        self.assertIn(b'name="image"', body)
        self.assertIn(PICTURE.read_bytes(), body)

    def test_retries_if_the_server_is_busy_or_not_ready(self):
        with Server(NOT_READY, BUSY, FOUND) as server:
            ran = run(server.url, "me", "secret")
        self.assertEqual((ran.returncode, len(server.requests), len(objects(ran.stdout))), (0, 3, 1))
        self.assertEqual(len({body.count(PICTURE.read_bytes()) for _, _, body in server.requests}), 1)

    def test_gives_up_after_five_tries(self):
        with Server(BUSY) as server:
            ran = run(server.url, "me", "secret")
        self.fails(ran, "Busy: Come back later.")
        self.assertEqual(len(server.requests), 5)

    def test_prints_the_status_without_problem_details(self):
        with Server(FROM_A_PROXY) as server:
            ran = run(server.url, "me", "secret")
        self.fails(ran, "403")

    def test_fails_if_nothing_listens(self):
        with Server(FOUND) as server:
            pass
        self.fails(run(server.url, "me", "secret"))


unittest.main()
