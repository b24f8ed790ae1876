// A request to /predict, and its errors in words.

/** The threshold of the request for a chosen picture: the page itself hides the objects below the slider. */
export const FLOOR = 0.05;

/** An address of this server, without the login that the page's address may contain. */
function here(path) {
  const at = new URL(path, document.baseURI);
  at.username = at.password = "";
  return at;
}

/** The address of the request. */
export function address(threshold) {
  const at = here("predict");
  at.searchParams.set("threshold", threshold);
  return at.href;
}

/** Why there is no prediction; `passing` if the same request may succeed later, after `wait` seconds if known. */
export class Refusal extends Error {
  constructor(title, detail, { more = "", passing = false, wait } = {}) {
    super(title);
    Object.assign(this, { title, detail, more, passing, wait });
  }
}

/** The prediction for a picture, and the milliseconds that each stage took. */
export async function ask(picture, signal, threshold = FLOOR) {
  const form = new FormData();
  form.append("image", picture, picture.name);
  const begun = performance.now();
  const response = await call(address(threshold), { method: "POST", body: form, signal });
  const prediction = await response.json();
  const total = performance.now() - begun;
  return { ...prediction, stages: stages(response.headers.get("Server-Timing")), total };
}

/** A sample picture. */
export async function sample(name) {
  const blob = await (await call(here(`playground/${name}`))).blob();
  return new File([blob], name, { type: blob.type });
}

async function call(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refusal("The server cannot be reached", "It may be stopping, or the network may be down.", { passing: true });
  }
  if (!response.ok) throw refusal(response, await response.text());
  return response;
}

/** Problem details (RFC 9457), or the error of a proxy in front of the server. */
function refusal(response, text) {
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // The response is not from ssd.
  }
  const { status, headers } = response;
  const title = problem.title ?? `${status} ${response.statusText}`;
  const detail = problem.detail ?? "This is not ssd's own response: a proxy in front of it may have refused the request.";
  const more = [];
  const seconds = Number(headers.get("Retry-After"));
  if (seconds > 0) more.push(`Try again in ${seconds} s.`);
  if (status === 401) more.push("Reload the page to log in.");
  if (status >= 500 && headers.has("X-Request-Id")) more.push(`Request ${headers.get("X-Request-Id")}`);
  const passing = [401, 408, 429].includes(status) || status >= 500;
  // A proxy that limits the rate may not say how long.
  const wait = [429, 503].includes(status) ? seconds || 1 : undefined;
  return new Refusal(title, detail, { more: more.join(" "), passing, wait });
}

/** The stages of a Server-Timing header: their names and milliseconds. */
function stages(header) {
  const entries = (header ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g);
  return [...entries].map(([, name, time]) => [name, Number(time)]);
}
