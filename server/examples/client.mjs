// Prints the objects in a picture, one per line: label, score, and the box's x, y, width and height.
//
//   SSD_URL=http://localhost:5000 SSD_USERNAME=ugain SSD_PASSWORD=ugain node client.mjs cat.jpg
//
// Needs Node.js 18 or later. A page imports the function: predict(input.files[0], { url, username, password }).

export async function predict(picture, { url, username, password }) {
  const login = new TextEncoder().encode(`${username}:${password}`);
  const headers = { Authorization: `Basic ${btoa(String.fromCharCode(...login))}` };
  const body = new FormData();
  body.append("image", picture);
  for (let retries = 4; ; retries--) {
    const signal = AbortSignal.timeout(60_000);
    const response = await fetch(`${url}/predict`, { method: "POST", headers, body, signal });
    if (response.ok) return response.json();
    // Busy (429) or not ready (503): retry after waiting as many seconds as the response's Retry-After says.
    const seconds = response.headers.get("Retry-After");
    if (seconds === null || retries === 0) {
      const problem = await response.json().catch(() => ({}));
      throw new Error(problem.title ? `${problem.title}: ${problem.detail}` : `HTTP status ${response.status}`);
    }
    await response.body?.cancel();
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

if (globalThis.process) {
  const { readFile } = await import("node:fs/promises");
  const { SSD_URL: url, SSD_USERNAME: username, SSD_PASSWORD: password } = process.env;
  try {
    const picture = new Blob([await readFile(process.argv[2])]);
    const { predictions } = await predict(picture, { url, username, password });
    for (const { label, probability, box } of predictions) {
      console.log([label, probability, box.x, box.y, box.width, box.height].join("\t"));
    }
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
