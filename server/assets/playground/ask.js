// One request to /predict, and in words what may become of it.

/** The least probability that is asked for: the page itself hides what is below the slider. */
export const FLOOR = 0.05;

/** An address of this server. The page's own may hold a login, which must not be shown or sent on. */
function here(path) {
  const at = new URL(path, document.baseURI);
  at.username = at.password = "";
  return at;
}

/** Where the request goes. */
export function address(threshold) {
  const at = here("predict");
  at.searchParams.set("threshold", threshold);
  return at.href;
}

/** Why there is no answer; `passing` where the same may work later. */
export class Refusal extends Error {
  constructor(title, detail, { more = "", passing = false } = {}) {
    super(title);
    Object.assign(this, { title, detail, more, passing });
  }
}

/** The answer to a picture, and how long each part of it took, in milliseconds. */
export async function ask(picture, signal) {
  const form = new FormData();
  form.append("image", picture, picture.name);
  const begun = performance.now();
  const response = await call(address(FLOOR), { method: "POST", body: form, signal });
  const answer = await response.json();
  const total = performance.now() - begun;
  return { ...answer, stages: stages(response.headers.get("Server-Timing")), total };
}

/** A picture that the server has. */
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

/** Problem details (RFC 9457), or what a proxy before the server says in their place. */
function refusal(response, text) {
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // Not from ssd.
  }
  const { status, headers } = response;
  const title = problem.title ?? `${status} ${response.statusText}`;
  const detail = problem.detail ?? "That is not ssd's own answer: something between may have refused.";
  const more = [];
  const seconds = Number(headers.get("Retry-After"));
  if (seconds > 0) more.push(`Try again in ${seconds} s.`);
  if (status === 401) more.push("Reload the page to log in.");
  if (status >= 500 && headers.has("X-Request-Id")) more.push(`Request ${headers.get("X-Request-Id")}`);
  return new Refusal(title, detail, { more: more.join(" "), passing: [401, 408, 429].includes(status) || status >= 500 });
}

/** The stages of a Server-Timing header: their names and milliseconds. */
function stages(header) {
  const entries = (header ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g);
  return [...entries].map(([, name, time]) => [name, Number(time)]);
}
