// Starts the camera, takes one picture, stops it.

import { Refusal } from "./ask.js";

const TITLE = "The camera cannot be used";
const REASONS = {
  NotAllowedError: "The browser does not allow it. Change that in the address bar.",
  NotFoundError: "No camera is connected.",
  NotReadableError: "Another program may be using it.",
};

/** Shows the camera's picture in a `<video>`. */
export async function start(video) {
  if (!navigator.mediaDevices) {
    throw new Refusal(TITLE, "Browsers allow it on https and on localhost only.");
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    // Until the video plays, there is no picture to take.
    await video.play();
  } catch (error) {
    throw new Refusal(TITLE, REASONS[error.name] ?? error.message);
  }
}

/** The camera's picture, as a JPEG. */
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
