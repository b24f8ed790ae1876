// The playground: sends a picture to /predict once, or the camera's pictures one after another, and shows the response.

import { FLOOR, Refusal, address, ask, sample } from "./ask.js";
import * as camera from "./camera.js";
import { Findings, percent } from "./findings.js";
import { watch } from "./live.js";
import { snippet } from "./snippets.js";
import { upright } from "./upright.js";

const at = (id) => document.getElementById(id);
const limits = document.body.dataset;
const findings = new Findings(at("boxes"), at("rows"));
const slider = at("threshold");
const video = at("video");

let current; // The in-flight request for a chosen picture, or the last one.
let live; // Stops live mode, while it is on.

async function look(picture) {
  leave();
  current?.cancel.abort();
  const mine = (current = { picture, cancel: new AbortController() });
  state("busy");
  try {
    await show(mine);
    if (picture.size > limits.bodyLimit) {
      throw new Refusal("The picture is too large", `It has ${size(picture.size)}; this server takes up to ${size(limits.bodyLimit)}.`);
    }
    mine.prediction = await ask(picture, mine.cancel.signal);
    // The picture is shown before its boxes. If the browser cannot show it, the boxes are still shown.
    await at("shown").decode().catch(() => {});
    if (mine !== current) return;
    place(mine.prediction.image);
    state("done");
    present(mine.prediction);
  } catch (error) {
    if (mine !== current) return;
    state("failed");
    refuse(error, () => look(picture));
  }
}

/** Sets the state: busy, done, failed or live, or none at first. style.css shows the elements of each state. */
function state(name) {
  if (name) document.body.dataset.state = name;
  else delete document.body.dataset.state;
  at("stage").ariaBusy = name === "busy";
  at("findings").hidden = at("request").hidden = name !== "done";
  at("notice").hidden = true;
  at("summary").ariaLive = name === "live" ? "off" : "polite";
  at("summary").textContent = ["busy", "live"].includes(name) ? "Detecting…" : "";
  at("pace").textContent = at("spoken").textContent = "";
  if (name !== "done") at("boxes").replaceChildren();
}

let model; // Its detections are shown.

function present(response) {
  ({ model } = response);
  findings.show(response);
  filter();
  times(response);
}

let urls = [];

async function show(mine) {
  const { picture } = mine;
  const turned = await upright(picture).catch(() => picture);
  if (mine !== current) return;
  for (const url of urls) URL.revokeObjectURL(url);
  urls = [picture, turned].map((blob) => URL.createObjectURL(blob));
  [at("download").href, at("shown").src] = urls;
  at("shown").alt = at("download").textContent = at("download").download = picture.name;
  at("invitation").hidden = true;
  at("frame").hidden = false;
}

function place({ width, height }) {
  at("frame").style.setProperty("--ratio", width / height);
}
at("shown").onload = () => place({ width: at("shown").naturalWidth, height: at("shown").naturalHeight });
at("shown").onerror = () => {
  at("invitation").hidden = false;
  at("frame").hidden = video.hidden;
};

function refuse(error, again) {
  document.body.dataset.state ??= "failed";
  const { title = "This page failed", detail = error.message, more, passing = false } = error;
  const part = (name, text) => Object.assign(document.createElement(name), { textContent: text });
  const parts = [part("h2", title), part("p", detail)];
  if (more) parts.push(Object.assign(part("p", more), { className: "note" }));
  if (passing) parts.push(Object.assign(part("button", "Try again"), { className: "button", type: "button", onclick: again }));
  at("notice").replaceChildren(...parts);
  at("notice").hidden = false;
}

// ---- the threshold ----

function filter() {
  const threshold = slider.value / 100;
  const count = findings.filter(threshold);
  at("percent").value = percent(threshold);
  tell(`${count} ${count === 1 ? "object" : "objects"}`);
  at("asked").textContent = live
    ? `Detections by ${model}. Each request asks for those with a score of at least ${percent(threshold)}.`
    : `${findings.found.length} detections by ${model} with a score of at least ${percent(FLOOR)}, in one request. The slider only hides detections; it sends no new request.`;
  if (!live) write();
}

let spoken = -Infinity; // When a screen reader last got a text of live mode.

/** Shows a text in the summary. In live mode a screen reader gets it every five seconds at most, unless it is urgent. */
function tell(text, urgent = false) {
  at("summary").textContent = text;
  const now = performance.now();
  if (!live || text === at("spoken").textContent || (!urgent && now < spoken + 5000)) return;
  at("spoken").textContent = text;
  spoken = now;
}

function write() {
  const language = document.querySelector("[name=language]:checked").value;
  at("code").textContent = snippet(language, address(slider.value / 100), current.picture.name);
}

slider.value = Math.max(FLOOR, limits.threshold) * 100;
slider.oninput = filter;
at("languages").onchange = write;

at("copy").onclick = async () => {
  const text = at("code").textContent;
  // Browsers allow the clipboard only on https and localhost. Elsewhere the page copies a selection.
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else {
    getSelection().selectAllChildren(at("code"));
    document.execCommand("copy");
  }
  at("copy").textContent = at("copied").textContent = "Copied";
  setTimeout(() => {
    at("copy").textContent = "Copy";
    at("copied").textContent = "";
  }, 2000);
};

// ---- times ----

const NAMES = {
  decode: "Decode",
  preprocess: "Preprocess",
  wait: "Wait",
  forward: "Forward pass",
  postprocess: "Postprocess",
};

function times({ stages, total }) {
  const inside = stages.reduce((sum, [, time]) => sum + time, 0);
  const lines = stages.map(([name, time]) => [NAMES[name] ?? name, time]);
  lines.push(["Sending, receiving", Math.max(0, total - inside)], ["Round trip", total]);
  const parts = lines.map(([name, time]) => {
    const line = document.createElement("div");
    const [term, bar, value] = ["dt", "dd", "dd"].map((tag) => document.createElement(tag));
    term.textContent = name;
    bar.className = "length";
    bar.style.setProperty("--part", time / total);
    value.textContent = `${time.toFixed(time < 100 ? 1 : 0)} ms`;
    line.append(term, bar, value);
    return line;
  });
  at("times").replaceChildren(...parts);
}

// ---- sources of pictures ----

const size = (bytes) => `${(bytes / 2 ** 20).toFixed(1).replace(".0", "")} MiB`;
at("limits").textContent = `Up to ${size(limits.bodyLimit)} and ${+(limits.pixelLimit / 1e6).toFixed(1)} megapixels.`;

at("file").onchange = ({ target }) => {
  if (target.files[0]) look(target.files[0]);
  target.value = ""; // The same picture can be chosen again.
};

for (const button of document.querySelectorAll("[data-sample]")) {
  button.onclick = async () => {
    try {
      look(await sample(button.dataset.sample));
    } catch (error) {
      refuse(error, button.onclick);
    }
  };
}

document.addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files[0]) look(clipboardData.files[0]);
});

const over = (event, is) => {
  event.preventDefault();
  at("stage").classList.toggle("over", is);
};
document.addEventListener("dragover", (event) => over(event, true));
document.addEventListener("dragleave", (event) => over(event, false));
document.addEventListener("drop", (event) => {
  over(event, false);
  if (event.dataTransfer.files[0]) look(event.dataTransfer.files[0]);
});

// ---- the camera ----

let opening = false;
at("camera").onclick = async () => {
  if (opening) return; // A second stream would stay on.
  opening = true;
  try {
    await camera.start(video, fail);
    filming(true);
    if (document.hidden) leave(); // It was hidden while the camera started.
    else at("shoot").focus();
  } catch (error) {
    refuse(error, at("camera").onclick);
  } finally {
    opening = false;
  }
};
at("shoot").onclick = async () => look(await camera.shoot(video));
at("leave").onclick = leave;
document.addEventListener("keydown", ({ key }) => key === "Escape" && leave());
document.addEventListener("visibilitychange", () => document.hidden && leave());
// The first size, and another one when a phone is turned.
video.onresize = () => at("frame").style.setProperty("--filmed", video.videoWidth / video.videoHeight);

function filming(is) {
  document.body.classList.toggle("filming", is);
  video.hidden = at("shooting").hidden = !is;
  at("sources").hidden = is;
  at("frame").hidden = !is && !at("invitation").hidden;
}

function leave() {
  if (!video.srcObject) return;
  stop();
  camera.stop(video);
  filming(false);
  at("camera").focus();
}

at("live").onclick = () => (live ? stop() : start());

async function start() {
  // A picture without a response is given up, since live mode would not wait for it.
  if (!current?.prediction) {
    current?.cancel.abort();
    current = undefined;
  }
  const mine = (live = new AbortController());
  at("live").ariaPressed = true;
  state("live");
  try {
    // Drawing all detections, of which most are hidden, would take longer than finding them.
    const threshold = () => slider.value / 100;
    for await (const { prediction, pace, refusal } of watch(video, mine.signal, threshold)) {
      if (prediction) {
        at("findings").hidden = false;
        present(prediction);
        at("pace").textContent = `${pace.toFixed(pace < 10 ? 1 : 0)} pictures per second`;
      } else {
        at("boxes").replaceChildren(); // They would not fit the moving picture.
        at("pace").textContent = "";
        tell(`${refusal.title}; trying again in ${refusal.wait} s.`, true);
      }
    }
  } catch (error) {
    if (mine === live) fail(error);
  }
}

function fail(error) {
  leave();
  refuse(error, async () => {
    await at("camera").onclick();
    if (video.srcObject) start();
  });
}

/** Stops live mode, and shows the response to the chosen picture again. */
function stop() {
  if (!live) return;
  live.abort();
  live = undefined;
  at("live").ariaPressed = false;
  state(current && "done");
  if (current) present(current.prediction);
}
