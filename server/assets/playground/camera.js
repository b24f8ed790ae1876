// Starts the camera, takes pictures, stops it.

import { Refusal } from "./ask.js";

const TITLE = "The camera cannot be used";
const REASONS = {
  NotAllowedError: "The browser does not allow it. Change that in the address bar.",
  NotFoundError: "No camera is connected.",
  NotReadableError: "Another program may be using it.",
};

/** Shows the camera's picture in a `<video>`; calls `lost` with the reason if the camera stops by itself. */
export async function start(video, lost) {
  if (!navigator.mediaDevices) {
    throw new Refusal(TITLE, "Browsers allow it on https and on localhost only.");
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    for (const track of video.srcObject.getTracks()) {
      track.onended = () => lost(new Refusal(TITLE, "It was unplugged, or the browser stopped it."));
    }
    // Until the video plays, there is no picture to take.
    await video.play();
  } catch (error) {
    throw new Refusal(TITLE, REASONS[error.name] ?? error.message);
  }
}

const canvas = document.createElement("canvas");

/** The camera's picture, as a JPEG whose sides are at most `side` pixels. */
export async function shoot(video, side = Infinity, quality = 0.92) {
  const { videoWidth, videoHeight } = video;
  const scale = Math.min(1, side / Math.max(videoWidth, videoHeight));
  [canvas.width, canvas.height] = [videoWidth, videoHeight].map((length) => Math.round(length * scale));
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
  return new File([blob], "camera.jpg", { type: blob.type });
}

export function stop(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}
