// The server makes pictures upright: it applies their EXIF orientation. Browsers do the same with JPEG and PNG, but
// Chromium shows a WebP as stored, so the boxes would not fit.

// Canvas transforms (a, b, c, d) from the stored to the upright picture, for EXIF orientations 1 to 8.
const TURNS = [
  [1, 0, 0, 1], [-1, 0, 0, 1], [-1, 0, 0, -1], [1, 0, 0, -1],
  [0, 1, 1, 0], [0, 1, -1, 0], [0, -1, -1, 0], [0, -1, 1, 0],
];

/** The picture as every browser shows it upright: unchanged, or a turned WebP. */
export async function upright(picture) {
  const turn = TURNS[(await orientation(picture)) - 1];
  if (!turn || turn === TURNS[0]) return picture;
  const stored = await createImageBitmap(picture, { imageOrientation: "none" });
  const { width, height } = stored;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = turn[0] ? [width, height] : [height, width];
  const context = canvas.getContext("2d");
  context.translate(canvas.width / 2, canvas.height / 2);
  context.transform(...turn, 0, 0);
  context.drawImage(stored, -width / 2, -height / 2);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(blob ?? picture)));
}

/** The EXIF orientation of a WebP; undefined for other or damaged files, which the server reports. */
async function orientation(picture) {
  const webp = /^RIFF[^]{4}WEBP/.test(await picture.slice(0, 12).text());
  if (!webp) return undefined;
  const view = new DataView(await picture.arrayBuffer());
  const holds = (at, text) => [...text].every((letter, index) => view.getUint8(at + index) === letter.charCodeAt());
  try {
    let chunk = 12;
    while (!holds(chunk, "EXIF")) {
      const size = view.getUint32(chunk + 4, true);
      chunk += 8 + size + (size % 2);
    }
    const tiff = chunk + (holds(chunk + 8, "Exif") ? 14 : 8);
    const little = holds(tiff, "II");
    let entry = tiff + view.getUint32(tiff + 4, little) + 2;
    while (view.getUint16(entry, little) !== 0x0112) entry += 12;
    return view.getUint16(entry + 8, little);
  } catch {
    return undefined; // The read went past the end: there is no such chunk or entry.
  }
}
