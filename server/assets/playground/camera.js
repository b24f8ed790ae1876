// The camera: on, one picture, off.

import { Refusal } from "./ask.js";

const TITLE = "The camera cannot be used";
const REASONS = {
  NotAllowedError: "The browser was not allowed to; its address bar can change that.",
  NotFoundError: "None is connected.",
  NotReadableError: "Another program may be using it.",
};

/** Shows in a `<video>` what the camera sees. */
export async function start(video) {
  if (!navigator.mediaDevices) {
    throw new Refusal(TITLE, "Browsers allow it on https and on localhost only.");
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    // Only then there is a first picture to take.
    await video.play();
  } catch (error) {
    throw new Refusal(TITLE, REASONS[error.name] ?? error.message);
  }
}

/** What the camera sees now, as a JPEG. */
export async function shoot(video) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return new File([blob], "camera.jpg", { type: blob.type });
}

export function stop(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}
