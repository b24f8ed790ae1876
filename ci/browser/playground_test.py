"""Tests the playground and /docs in a headless Chromium. ci/browser.sh runs it.

After each test, the page must have logged no error, kept its Content-Security-Policy, and used no other server.
"""

import base64
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

ROOT = pathlib.Path(__file__).parents[2]
SAMPLES = ROOT / "data/samples"
PICTURES = ROOT / "server/tests/data/pictures"
# Not the default login: the page must neither know nor show it.
LOGIN = {"SECRET_USERNAME": "somebody", "SECRET_PASSWORD": "pass:wörd"}
TIMEOUT = 60  # Seconds.

# Scripts the responses to POST requests, by index; the last one repeats. A response is [body, status, headers], "none"
# (it never comes) or null (the server's own). Records the requests, and the texts of live regions.
SCRIPT = """
const [responses] = arguments;
const fetch = (window.unscripted ??= window.fetch);
window.sent = [];
window.inFlight = window.mostInFlight = 0;
window.fetch = async (address, options) => {
  if (options.method !== "POST") return fetch(address, options);
  const response = responses[Math.min(sent.length, responses.length - 1)];
  const request = { address, time: performance.now(), aborted: false };
  sent.push(request);
  options.signal.addEventListener("abort", () => (request.aborted = true));
  mostInFlight = Math.max(mostInFlight, ++inFlight);
  const picture = options.body.get("image");
  const { width, height } = await createImageBitmap(picture);
  Object.assign(request, { type: picture.type, width, height });
  try {
    if (response === null) return await fetch(address, options);
    if (response === "none") await new Promise((_, reject) => (options.signal.onabort = () => reject(options.signal.reason)));
    return new Response(JSON.stringify(response[0]), { status: response[1], headers: response[2] });
  } finally {
    inFlight -= 1;
  }
};
window.said = { summary: [], spoken: [] };
for (const [id, texts] of Object.entries(said)) {
  const element = document.getElementById(id);
  new MutationObserver(() => texts.push([element.textContent, performance.now()])).observe(element, { childList: true });
}
"""


class Server:
    """The server with the model that ships, on a free port."""

    def __init__(self, **settings):
        weights = "weights/ssd_mobilenet_v2_oidv4.safetensors"
        # The precision that every processor has: the scores depend on it a little.
        environment = {"PATH": os.environ["PATH"], "PORT": "0", "PRECISION": "f32", "WEIGHTS_PATH": weights, **LOGIN, **settings}
        self.process = subprocess.Popen(
            [ROOT / os.environ["SERVER"]], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        for line in self.process.stderr:
            if found := re.search(r"Running on http://([^/]+)/", line):
                self.address = found[1]
                break
        else:
            sys.exit("the server did not start")
        # Without a reader, the server would block when the pipe is full.
        self.log = subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)

    def url(self, user="somebody", password="pass%3Aw%C3%B6rd"):
        return f"http://{user}:{password}@{self.address}/"

    def behind_a_proxy(self):
        """The same server under another path, which a proxy removes, as an Ingress with rewrite-target does."""
        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        proxy.daemon_threads = True
        proxy.target, self.address = self.address, f"127.0.0.1:{proxy.server_port}{Proxy.path_prefix}"
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        return proxy

    def stop(self):
        self.process.terminate()
        self.process.wait(TIMEOUT)
        self.log.wait(TIMEOUT)


class Proxy(http.server.BaseHTTPRequestHandler):
    path_prefix = "/under/ssd"

    def do_GET(self):
        prefix, found, path = self.path.partition(f"{self.path_prefix}/")
        if prefix or not found:
            self.send_error(404)
            return
        target = http.client.HTTPConnection(self.server.target, timeout=TIMEOUT)
        headers = {name: value for name, value in self.headers.items() if name != "Connection"}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target.request(self.command, f"/{path}", body, headers)
        response = target.getresponse()
        content = response.read()
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        target.close()

    do_POST = do_GET

    def log_message(self, *_):
        pass


def browser(*arguments):
    options = webdriver.ChromeOptions()
    options.binary_location = os.environ["BROWSER"]
    for argument in (
        "headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars", "window-size=1280,800",
        "use-fake-device-for-media-stream", "use-fake-ui-for-media-stream", *arguments,
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(os.environ["DRIVER"]))
    driver.set_script_timeout(TIMEOUT)
    return driver


def screen(driver, width, height, scheme="light", motion="no-preference"):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
    features = [{"name": name, "value": value} for name, value in media.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


class BrowserTest(unittest.TestCase):
    """What the tests share: a server, a browser, and what must hold after each test."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.driver = browser()
        cls.addClassCleanup(cls.driver.quit)

    def setUp(self):
        self.refused = 0  # How many error responses, which Chromium logs, the test expects.
        screen(self.driver, 1280, 800)
        self.events()
        self.driver.get_log("browser")
        self.driver.get(self.server.url())

    def tearDown(self):
        log = [entry["message"] for entry in self.driver.get_log("browser")]
        # Swagger UI's page has no icon, so browsers look for one at the root.
        log = [message for message in log if "/favicon.ico" not in message]
        errors = [message for message in log if "Failed to load resource" not in message]
        self.assertEqual(errors, [])
        self.assertEqual(len(log) - len(errors), self.refused, log)
        requested = [event["params"]["request"]["url"] for event in self.events() if event["method"] == "Network.requestWillBeSent"]
        own = ("blob:", "data:", f"http://{self.server.address}/", self.server.url())
        self.assertEqual([url for url in requested if not url.startswith(own) and not url.endswith("/favicon.ico")], [])

    # ---- actions and what the page shows ----

    def events(self):
        return [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]

    def requests(self):
        sent = [event["params"]["request"] for event in self.events() if event["method"] == "Network.requestWillBeSent"]
        return sum(request["method"] == "POST" for request in sent)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def visible(self, selector):
        return [each for each in self.driver.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()]

    def until(self, condition):
        # An element that the page draws anew between two commands is stale: then the condition is read again.
        wait = WebDriverWait(self.driver, TIMEOUT, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda _: condition())

    def done(self, name=None):
        self.until(
            lambda: self.find("body").get_attribute("data-state") == "done"
            and name in (None, self.find("#download").text)
        )

    def choose(self, path):
        self.find("#file").send_keys(str(path))

    def upload(self, path):
        self.choose(path)
        self.done(path.name)

    def sample(self, name):
        self.find(f"[data-sample='{name}']").click()
        self.done(name)

    def notice(self):
        self.until(lambda: self.visible("#notice"))
        return self.find("#notice").text

    def threshold(self, value):
        script = "const it = document.getElementById('threshold'); it.value = arguments[0]; it.dispatchEvent(new Event('input'))"
        self.driver.execute_script(script, value)

    def rows(self):
        """Label and percentage of every row that shows."""
        return [tuple(cell.text for cell in row.find_elements(By.TAG_NAME, "td")) for row in self.visible("#rows tr")]

    def code(self, language):
        self.driver.execute_script("document.querySelector(`[value=${arguments[0]}]`).click()", language)
        return self.find("#code").get_attribute("textContent")

    def run_code(self, command, folder=SAMPLES):
        environment = {"PATH": os.environ["PATH"], **LOGIN}
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def predict(self, picture, threshold):
        """The server's response to a request without the page."""
        login = ":".join(LOGIN.values())
        url = f"http://{self.server.address}/predict?threshold={threshold}"
        return json.loads(subprocess.check_output(["curl", "-s", "-u", login, "-F", f"image=@{picture}", url]))

    def open_the_documentation(self):
        self.find("header a").click()
        self.until(lambda: self.visible(".opblock-summary"))
        self.find(".opblock-summary").click()
        self.until(lambda: self.visible(".try-out__btn"))


class PlaygroundTest(BrowserTest):
    # ---- pictures ----

    def test_an_uploaded_picture_shows_the_server_s_boxes_where_they_are(self):
        picture = SAMPLES / "astronaut.jpg"
        self.upload(picture)
        rows = lambda response: [(each["label"], f"{each['probability'] * 100:.1f} %") for each in response["predictions"]]
        # At the threshold in the weights file, and at one that gives more than one detection.
        self.assertEqual(self.rows(), rows(self.predict(picture, 0.5)))
        self.threshold(20)
        response = self.predict(picture, 0.2)
        detections = response["predictions"]
        self.assertGreaterEqual(len(detections), 3)
        self.assertEqual(self.rows(), rows(response))
        frame = self.find("#shown").rect
        shown = sorted((box.rect["x"], box.rect["y"], box.rect["width"], box.rect["height"]) for box in self.visible(".edge"))
        scale = frame["width"] / response["image"]["width"]
        boxes = [each["box"] for each in detections]
        expected = sorted((frame["x"] + box["x"] * scale, frame["y"] + box["y"] * scale, box["width"] * scale, box["height"] * scale) for box in boxes)
        self.assertEqual(len(shown), len(expected))
        for one, other in zip(shown, expected, strict=True):
            for length, wanted in zip(one, other, strict=True):
                self.assertAlmostEqual(length, wanted, delta=3)  # Half of a line, and rounding.
        self.assertEqual(self.find("#summary").text, f"{len(detections)} objects")

    def test_a_click_on_a_sample_shows_its_detections(self):
        for name, label in (("cat.png", "cat"), ("astronaut.jpg", "person"), ("coffee.jpg", "cup")):
            self.sample(name)
            self.threshold(5)
            detections = self.predict(SAMPLES / name, 0.05)["predictions"]
            self.assertEqual(detections[0]["label"], label)
            self.assertEqual([label for label, _ in self.rows()], [each["label"] for each in detections])
            self.assertEqual(len(self.visible(".edge")), len(detections))

    def test_a_response_without_detections_shows_no_objects(self):
        nothing = {"model": "any", "image": {"width": 451, "height": 300}, "predictions": []}
        self.driver.execute_script("window.fetch = async () => Response.json(arguments[0])", nothing)
        self.upload(SAMPLES / "cat.png")
        self.assertEqual(self.find("#summary").text, "0 objects")
        self.assertEqual((self.rows(), self.visible(".edge")), ([], []))

    def test_a_picture_can_be_pasted_and_dropped(self):
        for event, field in (("paste", "clipboardData"), ("drop", "dataTransfer")):
            script = """
                const [event, field, done] = arguments;
                const data = new DataTransfer();
                fetch(`${location.origin}/playground/astronaut.jpg`).then((response) => response.blob()).then((blob) => {
                  data.items.add(new File([blob], `${event}.jpg`, { type: "image/jpeg" }));
                  const Kind = { paste: ClipboardEvent, drop: DragEvent }[event];
                  document.body.dispatchEvent(new Kind(event, { [field]: data, bubbles: true, cancelable: true }));
                  done();
                });"""
            self.driver.execute_async_script(script, event, field)
            self.done(f"{event}.jpg")

    def test_the_camera_takes_a_picture_and_is_then_off(self):
        self.find("#camera").click()
        self.until(lambda: self.driver.execute_script("return document.getElementById('video').videoWidth"))
        self.find("#shoot").click()
        self.done("camera.jpg")
        self.assertIsNone(self.driver.execute_script("return document.getElementById('video').srcObject"))
        self.find("#camera").click()
        self.until(lambda: self.visible("#leave"))
        self.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        self.assertEqual(self.visible("#video"), [])

    def test_a_double_click_does_not_leave_a_camera_on(self):
        record = """
            window.streams = [];
            const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (wanted) => { streams.push(await ask(wanted)); return streams.at(-1); };
            const button = document.getElementById("camera");
            button.click();
            button.click();"""
        self.driver.execute_script(record)
        self.until(lambda: self.visible("#leave"))
        self.find("#leave").click()
        states = "return streams.flatMap((stream) => stream.getTracks()).map((track) => track.readyState)"
        self.assertEqual(set(self.driver.execute_script(states)), {"ended"})
        self.assertEqual(self.visible("#notice"), [])

    def test_the_page_says_why_there_is_no_camera(self):
        self.driver.execute_script("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
        self.find("#camera").click()
        self.assertIn("https and on localhost only", self.notice())

    def test_pictures_are_shown_upright_as_the_boxes_are(self):
        pixels = """
            const [path, done] = arguments;
            const draw = (image) => {
              const canvas = document.createElement("canvas");
              [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
              const context = canvas.getContext("2d");
              context.drawImage(image, 0, 0);
              return [canvas.width, canvas.height, ...context.getImageData(0, 0, canvas.width, canvas.height).data];
            };
            const image = document.getElementById("shown");
            image.decode().then(() => done(draw(image)));"""
        self.upload(PICTURES / "reference.png")
        reference = self.driver.execute_async_script(pixels, None)
        for path in sorted(PICTURES.glob("exif*")):
            with self.subTest(path.name):
                self.upload(path)
                shown = self.driver.execute_async_script(pixels, None)
                self.assertEqual(shown[:2], reference[:2])
                difference = sum(abs(a - b) for a, b in zip(shown[2:], reference[2:], strict=True)) / len(shown)
                self.assertLess(difference, 12)

    # ---- detections ----

    def test_the_slider_shows_the_same_detections_as_the_server_without_a_request(self):
        self.sample("coffee.jpg")
        self.assertEqual(self.requests(), 1)
        for percent in (5, 12, 30, 99, 100):
            self.threshold(percent)
            labels = [each["label"] for each in self.predict(SAMPLES / "coffee.jpg", percent / 100)["predictions"]]
            self.assertEqual([label for label, _ in self.rows()], labels)
            self.assertEqual(len(self.visible(".edge")), len(labels))
            self.assertIn(f"threshold={percent / 100:g}", self.code("curl"))
        self.assertEqual(self.requests(), 0)

    def test_a_row_and_its_box_light_up_together(self):
        self.sample("astronaut.jpg")
        self.threshold(14)
        def lit(selector):
            return [each.get_attribute("textContent") for each in self.visible(f"{selector}.lit")]

        row = next(row for row in self.visible("#rows tr") if "bottle" in row.text)
        ActionChains(self.driver).move_to_element(row).perform()
        self.assertEqual((lit(".name"), len(lit(".box"))), (["bottle"], 1))
        # The smallest of overlapping boxes is on top: a shoe on the person.
        box = min(self.visible(".box"), key=lambda box: box.rect["width"] * box.rect["height"])
        ActionChains(self.driver).move_to_element(box).perform()
        self.assertEqual((lit(".name"), len(lit("tr")), lit("tr")[0][:8]), (["Footwear"], 1, "Footwear"))
        ActionChains(self.driver).move_to_element(self.find("h1")).perform()
        self.assertEqual((lit(".name"), lit(".box"), lit("tr")), ([], [], []))

    def test_a_label_has_one_colour(self):
        colours = {}
        for name in ("astronaut.jpg", "coffee.jpg"):
            self.sample(name)
            self.threshold(12)
            for element in self.visible(".name, #rows tr"):
                label = element.find_element(By.CSS_SELECTOR, "text, td").get_attribute("textContent")
                colour = self.driver.execute_script("return getComputedStyle(arguments[0]).getPropertyValue('--colour')", element)
                colours.setdefault(label, set()).add(colour)
        self.assertEqual({label for label, used in colours.items() if len(used) != 1}, set())
        self.assertGreater(len(set.union(*colours.values())), 3)

    def test_the_time_of_every_stage_is_shown(self):
        self.sample("cat.png")
        names = [name.text for name in self.visible("#times dt")]
        self.assertEqual(
            names, ["Decode", "Preprocess", "Wait", "Forward pass", "Postprocess", "Sending, receiving", "Round trip"]
        )
        times = [float(time.text.removesuffix(" ms")) for time in self.visible("#times dd:last-child")]
        self.assertAlmostEqual(sum(times[:-1]), times[-1], delta=4)  # Each is rounded.

    # ---- live mode ----

    STAGES = {"Server-Timing": "decode;dur=1.5, preprocess;dur=2, wait;dur=0.5, forward;dur=15.25, postprocess;dur=0.1"}
    BUSY = [{"title": "The server is busy", "detail": "The queue is full."}, 429, {"Retry-After": "1"}]

    def objects(self, *scores):
        """A response with one object for each score."""
        boxes = [{"x": 64 + 300 * index, "y": 48, "width": 200, "height": 240} for index in range(len(scores))]
        predictions = [{"label": "cat", "probability": score, "box": box} for score, box in zip(scores, boxes, strict=True)]
        return [{"model": "any", "image": {"width": 640, "height": 480}, "predictions": predictions}, 200, self.STAGES]

    def film(self, *responses):
        """Starts live mode, with these responses."""
        self.driver.execute_script(SCRIPT, responses)
        self.find("#camera").click()
        self.until(lambda: self.visible("#live"))
        self.stream = self.driver.execute_script("window.stream = document.getElementById('video').srcObject")
        self.find("#live").click()

    def sent(self, at_least=0):
        """The recorded requests, when there are enough."""
        return self.until(lambda: self.driver.execute_script("return sent.length >= arguments[0] && { all: sent }", at_least))["all"]

    def said(self, where):
        return self.driver.execute_script("return said[arguments[0]]", where)

    def until_summary(self, text):
        self.until(lambda: self.find("#summary").text == text)

    def is_live(self):
        return self.find("#live").get_dom_attribute("aria-pressed") == "true"

    def assert_camera_is_off(self):
        self.assertEqual(self.visible("#video, #shooting"), [])
        state = "return [document.getElementById('video').srcObject, ...stream.getTracks().map((track) => track.readyState)]"
        self.assertEqual(self.driver.execute_script(state), [None, "ended"])

    def test_live_mode_sends_small_pictures_one_after_another(self):
        # A camera whose pictures are larger than those to send.
        large = """
            const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = () => ask({ video: { width: 1280, height: 720 } });"""
        self.driver.execute_script(large)
        self.film(None)
        sent = self.sent(6)
        self.assertEqual({(each["type"], each["width"], each["height"]) for each in sent[:5]}, {("image/jpeg", 640, 360)})
        self.assertEqual(self.driver.execute_script("return mostInFlight"), 1)
        video = self.find("#video").rect
        self.assertAlmostEqual(video["width"] / video["height"], 16 / 9, delta=0.01)
        self.assertRegex(self.find("#summary").text, r"^\d+ objects?$")
        self.assertIn("?threshold=0.5", sent[0]["address"])
        self.threshold(20)
        self.assertIn("?threshold=0.2", self.sent(len(self.sent()) + 2)[-1]["address"])
        self.find("#leave").click()
        self.assertGreaterEqual(self.requests(), 6)

    def test_live_mode_shows_the_last_response_over_the_video(self):
        # The page stands still at the second response, so its elements can be looked at.
        self.film(self.objects(0.9), self.objects(0.9, 0.3), "none")
        self.sent(3)
        video = self.find("#video").rect
        self.assertAlmostEqual(video["width"] / video["height"], 4 / 3, delta=0.01)
        self.assertEqual((len(self.visible(".edge")), self.rows(), self.find("#summary").text), (1, [("cat", "90.0 %")], "1 object"))
        self.threshold(20)
        self.assertEqual((self.rows(), self.find("#summary").text), ([("cat", "90.0 %"), ("cat", "30.0 %")], "2 objects"))
        scale = video["width"] / 640
        for box, left in zip(self.visible(".edge"), (64, 364), strict=True):
            wanted = {"x": video["x"] + left * scale, "y": video["y"] + 48 * scale, "width": 200 * scale, "height": 240 * scale}
            for name, length in wanted.items():
                self.assertAlmostEqual(box.rect[name], length, delta=3, msg=name)  # Half of a line, and rounding.
        times = dict(zip(*([each.text for each in self.visible(f"#times {part}")] for part in ("dt", "dd:last-child")), strict=True))
        self.assertEqual((times["Decode"], times["Preprocess"], times["Forward pass"]), ("1.5 ms", "2.0 ms", "15.3 ms"))
        self.assertRegex(self.find("#pace").text, r"^\d+(\.\d)? pictures per second$")
        self.assertEqual(self.visible("#request"), [])

    def test_live_mode_stops_and_the_chosen_picture_comes_back(self):
        self.sample("cat.png")
        shown = lambda: (self.rows(), [box.rect for box in self.visible(".edge, .name rect")], self.find("#summary").text, self.find("#code").text)
        before = shown()
        def hide():
            page = self.driver.current_window_handle
            self.driver.switch_to.new_window("tab")
            self.driver.close()
            self.driver.switch_to.window(page)

        for name, stop in (
            ("Cancel", lambda: self.find("#leave").click()),
            ("Escape", lambda: ActionChains(self.driver).send_keys(Keys.ESCAPE).perform()),
            ("Escape on the slider", lambda: self.find("#threshold").send_keys(Keys.ESCAPE)),
            ("hidden", hide),
            ("camera unplugged", lambda: self.driver.execute_script("stream.getTracks()[0].dispatchEvent(new Event('ended'))")),
        ):
            with self.subTest(name):
                self.film(self.objects(0.9), "none")
                self.sent(2)
                self.until_summary("1 object")
                stop()
                self.until(lambda: not self.visible("#video"))
                self.assert_camera_is_off()
                self.assertFalse(self.is_live())
                self.assertEqual(shown(), before)
                self.assertTrue(self.sent()[1]["aborted"])
        self.assertIn("It was unplugged", self.notice())

    def test_the_live_button_stops_live_mode_and_keeps_the_camera_on(self):
        self.sample("cat.png")
        rows = self.rows()
        self.film(self.objects(0.9), "none")
        self.sent(2)
        self.until_summary("1 object")
        self.assertTrue(self.is_live())
        self.find("#live").click()
        self.assertFalse(self.is_live())
        self.assertEqual(len(self.visible("#video, #shoot")), 2)
        # The boxes of the chosen picture would not fit the video.
        self.assertEqual((self.visible(".edge, #pace"), self.rows()), ([], rows))
        self.assertTrue(self.sent()[1]["aborted"])
        self.find("#live").click()
        self.sent(3)

    def test_another_picture_ends_live_mode(self):
        paste = """
            const data = new DataTransfer();
            data.items.add(new File([await (await fetch(`${location.origin}/playground/cat.png`, {})).blob()], "cat.png"));
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));"""
        for name, change in (
            ("camera.jpg", lambda: self.find("#shoot").click()),
            ("cat.png", lambda: self.driver.execute_script(f"(async () => {{ {paste} }})()")),
        ):
            self.film("none", None)
            self.sent(1)
            change()
            self.done(name)
            self.assert_camera_is_off()
            self.assertEqual([each["aborted"] for each in self.sent()], [True, False])
            self.assertTrue(self.visible("#request"))

    def test_live_mode_waits_while_the_server_is_busy(self):
        for response in (self.BUSY, [{**self.BUSY[0], "title": "The server is not ready"}, 503, {"Retry-After": "1"}]):
            self.film(response, self.objects(0.9), "none")
            first, second, _ = self.sent(3)
            self.assertGreater(second["time"] - first["time"], 990)
            said = f"{response[0]['title']}; trying again in 1 s."
            self.assertEqual([text for text, _ in self.said("summary")], ["Detecting…", said, "1 object"])
            self.assertEqual(self.said("spoken")[-1][0], said)
            self.assertEqual(self.visible("#notice"), [])
            self.assertTrue(self.is_live())
            self.driver.refresh()

    def test_live_mode_sends_nothing_after_it_was_stopped_while_waiting(self):
        problem, status, _ = self.BUSY
        self.film(self.objects(0.9), [problem, status, {"Retry-After": "3"}])
        self.until_summary("The server is busy; trying again in 3 s.")
        self.assertEqual((self.visible(".edge"), self.find("#pace").text), ([], ""))
        self.find("#live").click()
        self.driver.execute_async_script("setTimeout(arguments[0], 3500)")
        self.assertEqual(len(self.sent()), 2)
        self.assertEqual(self.visible("#summary, #findings"), [])

    def test_another_error_ends_live_mode_and_can_be_retried(self):
        self.film(self.objects(0.9), [{"title": "The server failed", "detail": "Why."}, 500, {}], self.objects(0.9, 0.8), "none")
        self.assertIn("The server failed", self.notice())
        self.assert_camera_is_off()
        self.assertEqual((self.visible("#findings, .edge"), self.is_live()), ([], False))
        self.find("#notice button").click()
        self.until_summary("2 objects")
        self.assertEqual((self.is_live(), self.visible("#notice")), (True, []))

    def test_live_mode_keeps_the_focus_and_does_not_speak_with_every_picture(self):
        self.film(*(self.objects(*[0.9] * (1 + index % 2)) for index in range(40)))
        self.assertEqual(self.find("#summary").get_dom_attribute("aria-live"), "off")
        self.until(lambda: self.visible("#rows tr"))
        self.driver.execute_script("document.querySelector('#rows tr').focus()")
        self.sent(len(self.sent()) + 20)
        lit = "return [document.activeElement.rowIndex, ...['tr', '.box', '.name'].map((one) => document.querySelectorAll(`${one}.lit`).length)]"
        self.assertEqual(self.driver.execute_script(lit), [1, 1, 1, 1])
        times = [time for text, time in self.said("spoken") if text]
        self.assertTrue(times)
        self.assertEqual([gap for gap in map(float.__sub__, times[1:], times) if gap < 4990], [])
        self.assertGreater(len(self.said("summary")), 20)
        self.find("#live").click()
        self.assertEqual(self.find("#summary").get_dom_attribute("aria-live"), "polite")

    def test_live_mode_works_with_the_keyboard_alone(self):
        press = lambda *keys: ActionChains(self.driver).send_keys(*keys).perform()
        focused = lambda: self.driver.switch_to.active_element.get_attribute("id")
        self.driver.execute_script(SCRIPT, [self.objects(0.9)])
        self.find("#camera").send_keys(Keys.ENTER)
        self.until(lambda: focused() == "shoot")
        press(Keys.TAB, Keys.SPACE)
        self.until_summary("1 object")
        self.assertEqual((focused(), self.is_live()), ("live", True))
        press(Keys.TAB, Keys.TAB, Keys.END)
        self.assertEqual(focused(), "threshold")
        self.until_summary("0 objects")
        press(Keys.ESCAPE)
        self.until(lambda: focused() == "camera")

    # ---- errors ----

    def test_a_damaged_picture_shows_the_server_s_message_and_the_next_one_works(self):
        with tempfile.TemporaryDirectory() as folder:
            broken = pathlib.Path(folder, "broken.jpg")
            broken.write_bytes((SAMPLES / "astronaut.jpg").read_bytes()[:5000])
            self.choose(broken)
            self.assertIn("The picture is damaged or cut short", self.notice())
            broken.write_text("not a picture")
            self.choose(broken)
            self.until(lambda: "The picture's format is not supported" in self.notice())
            self.refused = 2
        self.sample("cat.png")
        self.assertEqual(self.visible("#notice"), [])

    def test_a_picture_above_the_limit_is_not_sent(self):
        with tempfile.NamedTemporaryFile(suffix=".jpg") as large:
            large.truncate(11 << 20)
            self.choose(large.name)
            self.assertIn("It has 11 MiB; this server takes up to 10 MiB.", self.notice())
        self.assertEqual(self.requests(), 0)

    def test_every_error_response_shows_a_message(self):
        respond = "window.fetch = async () => new Response(arguments[0], { status: arguments[1], headers: arguments[2] })"
        problem = json.dumps({"title": "What was wrong", "detail": "What to do."})
        for status, headers, more in (
            (401, {}, "Reload the page to log in."),
            (413, {}, ""),
            (429, {"Retry-After": "7"}, "Try again in 7 s."),
            (500, {"X-Request-Id": "an-id"}, "Request an-id"),
            (503, {"Retry-After": "1"}, "Try again in 1 s."),
        ):
            self.driver.execute_script(respond, problem, status, headers)
            self.choose(SAMPLES / "cat.png")
            self.until(lambda: "What to do." in self.notice() and more in self.notice())
            self.assertEqual(len(self.visible("#notice button")), 0 if status == 413 else 1)
        self.driver.execute_script(respond, "<html>", 502, {})
        self.choose(SAMPLES / "cat.png")
        self.until(lambda: "502" in self.notice() and "not ssd's own response" in self.notice())

    def test_an_unreachable_server_shows_a_message_with_a_button_to_retry(self):
        network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**network, "offline": True})
        self.choose(SAMPLES / "cat.png")
        self.assertIn("The server cannot be reached", self.notice())
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**network, "offline": False})
        self.find("#notice button").click()
        self.done()
        self.refused = 1

    def test_a_wrong_password_does_not_open_the_page(self):
        stranger = browser()
        self.addCleanup(stranger.quit)
        for login in ({}, {"password": "wrong"}):
            stranger.get(self.server.url(**login) if login else f"http://{self.server.address}/")
            self.assertEqual(stranger.find_elements(By.ID, "stage"), [])
            self.assertNotIn("playground", stranger.title)

    # ---- the request as code ----

    def test_the_copied_curl_line_works_in_a_shell_for_any_file_name(self):
        permission = {"origin": f"http://{self.server.address}", "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        self.driver.execute_cdp_cmd("Browser.grantPermissions", permission)
        with tempfile.TemporaryDirectory() as folder:
            for name in ("astronaut.jpg", "it's $(a) \"b\";type=c,d.jpg"):
                shutil.copy(SAMPLES / "astronaut.jpg", pathlib.Path(folder, name))
                self.upload(pathlib.Path(folder, name))
                self.threshold(20)
                self.find("#copy").click()
                self.until(lambda: self.find("#copy").text == "Copied")
                copied = self.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
                self.assertNotIn("pass:wörd", self.driver.page_source)
                detections = json.loads(self.run_code(["sh", "-c", copied], folder))["predictions"]
                self.assertEqual([each["label"] for each in detections], [label for label, _ in self.rows()])

    def test_the_python_code_works(self):
        self.sample("astronaut.jpg")
        self.threshold(20)
        output = self.run_code([sys.executable, "-c", self.code("python")])
        self.assertEqual(len(output.splitlines()), len(self.rows()))

    @unittest.skipUnless(shutil.which("node"), "Node is not installed")
    def test_the_javascript_code_works(self):
        self.sample("astronaut.jpg")
        self.threshold(20)
        output = self.run_code(["node", "--input-type=module", "--eval", self.code("javascript")])
        self.assertEqual(len(re.findall(r"0\.\d+ \{", output)), len(self.rows()))

    # ---- accessibility ----

    def test_the_page_works_with_the_keyboard_alone(self):
        def press(*keys):
            ActionChains(self.driver).send_keys(*keys).perform()
            return self.driver.switch_to.active_element

        def visited(count):
            name = lambda element: element.get_attribute("id") or element.get_attribute("data-sample") or element.get_attribute("value") or element.tag_name
            seen = []
            for _ in range(count):
                element = press(Keys.TAB)
                seen.append(name(element))
                outline = "const e = arguments[0]; return [e, e.nextElementSibling].some((one) => one && getComputedStyle(one).outlineStyle !== 'none')"
                self.assertTrue(self.driver.execute_script(outline, element), f"{seen[-1]} does not show that it has the focus")
            return seen

        self.assertEqual(visited(5), ["a", "file", "camera", "cat.png", "astronaut.jpg"])
        press(Keys.ENTER)
        self.done()
        at_first = len(self.rows())
        self.assertEqual(visited(2), ["coffee.jpg", "threshold"])
        press(Keys.END)
        before = len(self.rows())
        self.assertLess(before, at_first)
        press(Keys.HOME)
        self.assertGreater(len(self.rows()), before)
        self.assertGreaterEqual(len(self.rows()), at_first)
        self.assertEqual(visited(1), ["tr"])
        first = self.driver.switch_to.active_element
        second = press(Keys.ARROW_DOWN)
        self.assertNotEqual(first, second)
        self.assertIn("lit", second.get_attribute("class").split())
        self.assertEqual(len(self.visible(".box.lit")), 1)
        self.assertEqual(visited(1), ["curl"])
        press(Keys.ARROW_RIGHT)
        self.assertIn("import requests", self.find("#code").text)
        self.assertEqual(visited(3), ["copy", "pre", "download"])

    def test_screen_readers_get_names_and_announcements(self):
        self.assertEqual(self.find("#summary").get_attribute("role"), "status")
        self.assertEqual(self.find("#notice").get_dom_attribute("role"), "alert")
        self.sample("cat.png")
        for control in self.visible("input, button, a, pre, img:not([alt='']), [role=group]"):
            self.assertTrue(control.accessible_name, control.get_attribute("outerHTML"))

    def test_nothing_is_wider_than_a_small_phone(self):
        for scheme in ("light", "dark"):
            screen(self.driver, 360, 740, scheme)
            wider = lambda: self.driver.execute_script("return document.documentElement.scrollWidth - 360")
            self.driver.refresh()
            self.assertEqual(wider(), 0)
            self.sample("astronaut.jpg")
            # With too many detections to show labels, and with few enough.
            for percent in (5, 12):
                self.threshold(percent)
                self.assertEqual(wider(), 0)
            for language in ("curl", "python", "javascript"):
                self.code(language)
                self.assertEqual(wider(), 0)
            self.choose(PICTURES / "make.py")
            self.notice()
            self.refused += 1
            self.assertEqual(wider(), 0)

    def test_live_mode_is_not_wider_than_a_small_phone(self):
        for scheme in ("light", "dark"):
            screen(self.driver, 360, 740, scheme)
            wider = lambda: self.driver.execute_script("return document.documentElement.scrollWidth - 360")
            self.driver.refresh()
            right = self.objects(0.9, 0.8)
            right[0]["predictions"][1].update(label="personal flotation device", box={"x": 600, "y": 0, "width": 40, "height": 480})
            self.film(right, self.BUSY, right, "none")
            self.sent(2)
            self.assertEqual(wider(), 0)
            self.sent(4)
            self.until_summary("2 objects")
            self.assertEqual(wider(), 0)

    def test_reduced_motion_stops_the_animation(self):
        animation = "document.body.dataset.state = 'busy'; return getComputedStyle(document.getElementById('stage'), '::after').animationName"
        self.assertEqual(self.driver.execute_script(animation), "busy")
        screen(self.driver, 1280, 800, motion="reduce")
        self.assertEqual(self.driver.execute_script(animation), "none")

    def test_the_header_links_to_the_documentation(self):
        self.open_the_documentation()
        self.assertIn(f"{self.server.address}/docs#", self.driver.current_url)


class ProxyTest(BrowserTest):
    """Both pages behind a proxy that serves them under another path. No request may leave that path."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        proxy = cls.server.behind_a_proxy()
        cls.addClassCleanup(proxy.server_close)
        cls.addClassCleanup(proxy.shutdown)

    def test_the_playground_works_under_another_path(self):
        self.sample("cat.png")
        self.assertIn(f"http://{self.server.address}/predict?threshold=", self.code("curl"))
        output = self.run_code(["sh", "-c", self.code("curl")])
        self.assertEqual(len(json.loads(output)["predictions"]), len(self.rows()))

    def test_the_documentation_sends_its_requests_to_where_it_is(self):
        self.open_the_documentation()
        self.find(".try-out__btn").click()
        self.until(lambda: self.visible(".execute"))
        self.find("input[type=file]").send_keys(str(SAMPLES / "cat.png"))
        self.find(".execute").click()
        self.until(lambda: self.visible(".live-responses-table .response-col_status"))
        self.assertIn("200", self.find(".live-responses-table .response .response-col_status").text)
        self.assertIn(f"http://{self.server.address}/predict", self.find(".request-url").text)


class Page(http.server.BaseHTTPRequestHandler):
    """An empty page, for another origin than the server's."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_):
        pass


class CrossOriginTest(unittest.TestCase):
    """Pages of other origins call the server."""

    CALL = """
const [address, login, done] = arguments;
const call = async () => {
  const body = new FormData();
  body.append("image", await new OffscreenCanvas(30, 20).getContext("2d").canvas.convertToBlob());
  const response = await fetch(address, { method: "POST", headers: login ? { Authorization: login } : {}, body });
  const timing = response.headers.get("Server-Timing");
  return { status: response.status, timing, body: await response.json() };
};
call().then(done, (error) => done({ error: error.name }));
"""

    @classmethod
    def setUpClass(cls):
        pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        cls.addClassCleanup(pages.server_close)
        cls.addClassCleanup(pages.shutdown)
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        cls.port = pages.server_port
        cls.server = Server(CORS_ORIGINS=f"http://127.0.0.1:{cls.port}")
        cls.addClassCleanup(cls.server.stop)
        cls.driver = browser()
        cls.addClassCleanup(cls.driver.quit)

    def call(self, host, login="Basic " + base64.b64encode(":".join(LOGIN.values()).encode()).decode()):
        self.driver.get(f"http://{host}:{self.port}/")
        return self.driver.execute_async_script(self.CALL, f"http://{self.server.address}/predict", login)

    def test_a_page_of_a_named_origin_gets_detections_and_errors(self):
        found = self.call("127.0.0.1")
        self.assertEqual((found["status"], found["body"]["image"]), (200, {"width": 30, "height": 20}))
        self.assertIn("forward;dur=", found["timing"])
        refused = self.call("127.0.0.1", "Basic d3Jvbmc6d3Jvbmc=")
        self.assertEqual((refused["status"], refused["body"]["type"]), (401, "urn:ssd:problem:unauthorized"))

    def test_a_page_of_another_origin_gets_nothing(self):
        self.assertEqual(self.call("localhost"), {"error": "TypeError"})
        self.assertEqual(self.call("localhost", None), {"error": "TypeError"})


def screenshots():
    # An .mjpeg is JPEGs one after another: here, a photograph that the camera takes again and again.
    with tempfile.NamedTemporaryFile(suffix=".mjpeg") as film:
        film.write(2 * (SAMPLES / "coffee.jpg").read_bytes())
        film.flush()
        server, driver = Server(), browser(f"use-file-for-fake-video-capture={film.name}")
        try:
            screen(driver, 1200, 765)
            driver.get(server.url())
            click = lambda selector: driver.find_element(By.CSS_SELECTOR, selector).click()
            until = lambda path: WebDriverWait(driver, TIMEOUT).until(lambda _: driver.find_elements(By.XPATH, path))
            # The first requests are slower.
            for name in 3 * ("astronaut.jpg", "cat.png"):
                click(f"[data-sample='{name}']")
                until(f"//body[@data-state='done']//a[.='{name}']")
            capture(driver, "playground")
            click("#camera")
            until("//body[@class='filming']")
            click("#live")
            # The pace is a mean over a second.
            driver.execute_async_script("setTimeout(arguments[0], 3000)")
            capture(driver, "playground-live")
        finally:
            driver.quit()
            server.stop()


def capture(driver, name):
    picture = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 85})
    (ROOT / f"docs/{name}.webp").write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    if sys.argv[1:] == ["screenshot"]:
        screenshots()
    else:
        unittest.main(verbosity=2)
