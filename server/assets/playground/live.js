// Live mode: detects in the camera's pictures, one after another.

import { ask } from "./ask.js";
import { shoot } from "./camera.js";

// The networks see about 300 x 300 pixels. Larger or finer pictures would only take longer to encode and to send.
const SIDE = 640;
const QUALITY = 0.8;

/**
 * Yields a `prediction` for one picture after another, with the `pace` in pictures per second. There is never more than
 * one request. If the server is busy, yields the `refusal` and waits as long as it says. `threshold()` is the one of the
 * next request.
 */
export async function* watch(video, signal, threshold) {
  const times = [performance.now()];
  while (!signal.aborted) {
    try {
      const picture = await shoot(video, SIDE, QUALITY);
      const next = fresh(video);
      const prediction = await ask(picture, signal, threshold());
      yield { prediction, pace: pace(times) };
      await next;
    } catch (refusal) {
      if (!refusal.wait) throw refusal;
      yield { refusal };
      await new Promise((resolve) => setTimeout(resolve, 1000 * refusal.wait));
    }
  }
}

/** Waits for the next picture of the camera, so none is sent twice. */
const fresh = (video) => new Promise((resolve) => video.requestVideoFrameCallback(resolve));

/** Adds the time of a response to `times`, and returns the mean over the last second, or over the last two responses. */
function pace(times) {
  const now = performance.now();
  times.push(now);
  while (times.length > 2 && times[0] < now - 1000) times.shift();
  return ((times.length - 1) * 1000) / (now - times[0]);
}
