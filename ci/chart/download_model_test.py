"""Tests charts/ssd/files/download-model.sh as the init container runs it, against a server on loopback."""

import hashlib
import http.server
import os
import pathlib
import re
import ssl
import subprocess
import tempfile
import threading
import unittest

SCRIPT = pathlib.Path(__file__).parents[2] / "charts/ssd/files/download-model.sh"
MODEL = bytes(range(256)) * 512
SHA256 = hashlib.sha256(MODEL).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves MODEL. Tests make it fail by the attributes."""

    protocol_version = "HTTP/1.1"
    ranges, cut_after, body, requests, proxied = True, None, MODEL, [], ""

    def do_GET(self):
        Server.requests.append((self.path, dict(self.headers)))
        self.path = self.path.removeprefix(Server.proxied)  # A proxy gets the whole URL.
        if self.path == "/moved":
            self.respond(302, b"", {"Location": "/model"})
        elif self.path != "/model":
            self.respond(404, b"not here")
        elif Server.ranges and (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = int(match[1])
            if start >= len(Server.body):
                self.respond(416, b"")
            else:
                last = len(Server.body) - 1
                self.respond(206, Server.body[start:], {"Content-Range": f"bytes {start}-{last}/{last + 1}"})
        else:
            self.respond(200, Server.body)

    def respond(self, status, body, headers=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: Server.cut_after])
        if Server.cut_after is not None:
            self.close_connection = True

    def log_message(self, *_):
        pass


class DownloadModel(unittest.TestCase):
    def setUp(self):
        Server.ranges, Server.cut_after, Server.body, Server.requests, Server.proxied = True, None, MODEL, [], ""
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        self.server.handle_error = lambda *_: None  # Clients hang up.
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name) / "models" / SHA256 / "model.pth"
        self.partial = self.file.parent / ".pod-1.partial"

    def run_script(self, path="/model", **environment):
        return subprocess.run(
            ["sh", "-euc", SCRIPT.read_text()],
            env={"PATH": os.environ["PATH"], "POD_NAME": "pod-1", "MODEL_FILE": str(self.file), "MODEL_SHA256": SHA256,
                 "MODEL_URL": f"http://127.0.0.1:{self.server.server_port}{path}", "NO_PROXY": "*"} | environment,
            capture_output=True, text=True, timeout=60, check=False)

    def assert_downloaded(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.file.read_bytes(), MODEL)
        self.assertEqual(list(self.file.parent.iterdir()), [self.file])

    def leave_partial(self, content):
        self.partial.parent.mkdir(parents=True)
        self.partial.write_bytes(content)

    def test_downloads_and_verifies(self):
        self.assert_downloaded(self.run_script())

    def test_follows_a_redirect(self):
        self.assert_downloaded(self.run_script("/moved"))

    def test_sends_no_request_when_the_file_exists(self):
        self.assert_downloaded(self.run_script())
        Server.requests.clear()
        self.assert_downloaded(self.run_script())
        self.assertEqual(Server.requests, [])

    def test_downloads_again_when_the_file_has_another_hash(self):
        self.file.parent.mkdir(parents=True)
        self.file.write_bytes(b"half")
        self.assert_downloaded(self.run_script())

    def test_refuses_and_deletes_a_download_with_another_hash(self):
        Server.body = b"a trojan"
        result = self.run_script()
        self.assertEqual(result.returncode, 1)
        self.assertIn("REFUSED", result.stderr)
        self.assertIn(SHA256, result.stderr)
        self.assertIn(hashlib.sha256(b"a trojan").hexdigest(), result.stderr)
        self.assertEqual(list(self.file.parent.iterdir()), [])

    def test_resumes_after_a_cut_connection(self):
        Server.cut_after = 100_000
        self.assertNotEqual(self.run_script().returncode, 0)
        self.assertEqual(self.partial.stat().st_size, 100_000)
        Server.cut_after = None
        self.assert_downloaded(self.run_script())
        self.assertEqual(Server.requests[-1][1]["Range"], "bytes=100000-")

    def test_starts_again_when_the_server_supports_no_ranges(self):
        self.leave_partial(MODEL[:1000])
        Server.ranges = False
        self.assert_downloaded(self.run_script())

    def test_recovers_from_a_partial_file_that_is_too_long(self):
        self.leave_partial(MODEL + b"more")
        self.run_script()
        self.assert_downloaded(self.run_script())

    def test_recovers_from_a_partial_file_of_something_else(self):
        self.leave_partial(b"something else")
        self.assertEqual(self.run_script().returncode, 1)
        self.assert_downloaded(self.run_script())

    def test_uses_a_complete_partial_file_without_a_request(self):
        self.leave_partial(MODEL)
        self.assert_downloaded(self.run_script())
        self.assertEqual(Server.requests, [])

    def test_keeps_the_partial_file_when_the_server_fails(self):
        self.leave_partial(MODEL[:1000])
        result = self.run_script("/gone")
        self.assertEqual(result.returncode, 22)
        self.assertIn("404", result.stderr)
        self.assertEqual(self.partial.read_bytes(), MODEL[:1000])

    def test_sends_the_header_and_does_not_print_it(self):
        result = self.run_script(MODEL_HEADER="Authorization: Bearer s3cret\n")
        self.assert_downloaded(result)
        self.assertEqual(Server.requests[0][1]["Authorization"], "Bearer s3cret")
        self.assertNotIn("s3cret", result.stdout + result.stderr)

    def test_connects_through_the_proxy(self):
        Server.proxied = "http://models.invalid"
        proxy = f"http://127.0.0.1:{self.server.server_port}"
        self.assert_downloaded(self.run_script(MODEL_URL="http://models.invalid/model", ALL_PROXY=proxy, NO_PROXY=""))

    def test_trusts_only_the_given_ca(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        key, certificate = (os.path.join(folder.name, name) for name in ("key", "ca.crt"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=models", "-days", "1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
            check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        url = f"https://127.0.0.1:{self.server.server_port}/model"
        self.assertEqual(self.run_script(MODEL_URL=url).returncode, 60)
        self.assert_downloaded(self.run_script(MODEL_URL=url, CURL_CA_BUNDLE=certificate))

    def test_refuses_a_file_url(self):
        self.assertNotEqual(self.run_script(MODEL_URL=SCRIPT.as_uri()).returncode, 0)

    def test_removes_old_files_of_deleted_pods(self):
        self.leave_partial(b"")
        old = self.partial.with_name(".pod-0.partial")
        old.write_bytes(b"old")
        os.utime(old, (0, 0))
        self.assert_downloaded(self.run_script())


if __name__ == "__main__":
    unittest.main()
