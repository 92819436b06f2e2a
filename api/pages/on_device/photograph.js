// From a file to the model's input pixels, by the same steps as shared/photograph.py on the server.
import { resize } from "./resample.js";

const JPEG = "image/jpeg";
const TYPES = [JPEG, "image/png", "image/webp"];
const MAX_PIXELS = 8192 * 6144;
const MIN_SIDE = 64;
const MAX_ASPECT = 10;
const FLAT_SPREAD = 8; // grey levels by which coding may spread a single colour
const STRIP_ROWS = 16;

/** Why a photograph cannot be read, in words for the person who took it. */
export class Refusal extends Error {}

/**
 * Return the photograph's pixels, RGB, sRGB, upright, on white: {data, width, height}.
 *
 * minSide: the pixels needed on the shorter side. With twice as many or more, a JPEG is decoded at a smaller scale and whole
 * blocks are averaged strip by strip: apart from the browser's own bitmap, closed at the end, nothing full-size is in memory.
 */
export async function decode(file, minSide) {
  if (!TYPES.includes(file.type)) throw new Refusal("Only JPEG, PNG and WebP are accepted. Choose another file.");
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Refusal("The photograph cannot be decoded: its data are damaged. Choose the original file.");
  });
  try {
    checkSize(bitmap);
    const image = await shrink(file, bitmap, minSide);
    if (isFlat(image)) throw new Refusal("The photograph is one flat colour. Check that nothing covers the lens.");
    return image;
  } finally {
    bitmap.close();
  }
}

async function shrink(file, bitmap, minSide) {
  const shorter = Math.min(bitmap.width, bitmap.height);
  const share = (file.type === JPEG && [8, 4, 2].find((factor) => shorter >= factor * minSide)) || 1;
  const rest = Math.max(1, Math.floor(Math.ceil(shorter / share) / minSide));
  const smaller = share > 1 && (await decodeSmaller(file, bitmap, share));
  if (!smaller) return reduce(bitmap, share * rest);
  const image = reduce(smaller, rest);
  smaller.close();
  return image;
}

/** Return the JPEG as its decoder (libjpeg) scales it to a half, a quarter or an eighth; null where a browser cannot. */
async function decodeSmaller(file, { width, height }, share) {
  if (!("ImageDecoder" in window)) return null;
  const desired = { desiredWidth: Math.ceil(width / share), desiredHeight: Math.ceil(height / share) };
  const decoder = new ImageDecoder({ type: file.type, data: await file.arrayBuffer(), ...desired });
  const { image } = await decoder.decode();
  decoder.close();
  if (image.displayWidth === desired.desiredWidth && image.displayHeight === desired.desiredHeight) return image;
  image.close();
  return null;
}

/** Return the model's input, RGB bytes, by the steps that its file lists. */
export async function prepare(image, steps) {
  let prepared = image;
  for (const step of steps) {
    prepared = step.resize ? resize(prepared, ...step.resize, step.filter) : await passJpeg(prepared, step.jpeg_quality);
  }
  return prepared.data;
}

/** Draw an image of RGB bytes on a canvas, and return the canvas. */
export function draw({ data, width, height }, canvas = document.createElement("canvas")) {
  Object.assign(canvas, { width, height });
  const drawn = new ImageData(width, height);
  drawn.data.fill(255);
  data.forEach((value, at) => (drawn.data[Math.trunc(at / 3) * 4 + (at % 3)] = value));
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(drawn, 0, 0);
  return canvas;
}

function checkSize({ width, height }) {
  const [shorter, longer] = [Math.min(width, height), Math.max(width, height)];
  const has = `The photograph has ${width} × ${height} pixels; `;
  if (shorter < MIN_SIDE) throw new Refusal(`${has}the shorter side needs at least ${MIN_SIDE}. Choose the original.`);
  if (longer > MAX_ASPECT * shorter) {
    throw new Refusal(`${has}the longer side may be at most ${MAX_ASPECT} times the shorter. Crop it to the lesion.`);
  }
  if (width * height > MAX_PIXELS) throw new Refusal(`${has}that is too large. Crop it to the lesion.`);
}

/** Average over blocks of factor × factor pixels. */
function reduce(picture, factor) {
  const full = { width: picture.displayWidth ?? picture.width, height: picture.displayHeight ?? picture.height };
  const [width, height] = [Math.ceil(full.width / factor), Math.ceil(full.height / factor)];
  const data = new Uint8ClampedArray(width * height * 3);
  const strip = Object.assign(document.createElement("canvas"), { width: full.width, height: STRIP_ROWS * factor });
  const context = strip.getContext("2d", { willReadFrequently: true, alpha: false });
  context.fillStyle = "white";
  for (let row = 0; row < height; row += STRIP_ROWS) {
    const rows = Math.min(strip.height, full.height - row * factor);
    context.fillRect(0, 0, strip.width, strip.height);
    context.drawImage(picture, 0, -row * factor);
    averageBlocks(context.getImageData(0, 0, strip.width, rows), factor, data.subarray(row * width * 3), width);
  }
  return { data, width, height };
}

function averageBlocks(strip, factor, target, width) {
  for (let top = 0, at = 0; top < strip.height; top += factor) {
    const bottom = Math.min(top + factor, strip.height);
    for (let column = 0; column < width; column += 1) {
      const left = column * factor;
      const right = Math.min(left + factor, strip.width);
      const sum = [0, 0, 0];
      for (let y = top; y < bottom; y += 1) {
        for (let from = (y * strip.width + left) * 4, end = from + (right - left) * 4; from < end; from += 4) {
          for (let channel = 0; channel < 3; channel += 1) sum[channel] += strip.data[from + channel];
        }
      }
      for (const total of sum) target[at++] = Math.trunc(total / ((bottom - top) * (right - left)) + 0.5);
    }
  }
}

function isFlat({ data }) {
  const [low, high] = [[255, 255, 255], [0, 0, 0]];
  data.forEach((value, at) => {
    low[at % 3] = Math.min(low[at % 3], value);
    high[at % 3] = Math.max(high[at % 3], value);
  });
  return low.every((value, channel) => high[channel] - value <= FLAT_SPREAD);
}

/** Return the image after JPEG compression: the model was trained on images that had gone through it. */
async function passJpeg(image, quality) {
  const file = await new Promise((done) => draw(image).toBlob(done, JPEG, quality / 100));
  return reduce(await createImageBitmap(file), 1);
}
