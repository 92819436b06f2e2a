// Draws heatmaps as shared/heatmap.py does on the server, on one scale for all lesions.
import { resize } from "./resample.js";

const OVERLAY_SIDE = 512;
const MAX_OPACITY = 0.6;
// Turbo (Mikhailov 2019, Apache-2.0), as approximated by Ruofei Du: coefficients of x^0 to x^5 for red, green and blue.
const TURBO = [
  [0.13572138, 4.6153926, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
  [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
  [0.1066733, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
];
const COLOURS = Array.from({ length: 256 }, (_, level) =>
  TURBO.map((factors) => toLevel(factors.reduce((sum, factor, power) => sum + factor * (level / 255) ** power, 0))),
);

/** Return the image (RGB bytes) at display size. */
export function fit(image) {
  const share = Math.min(1, OVERLAY_SIDE / Math.max(image.width, image.height));
  return resize(image, Math.round(image.width * share), Math.round(image.height * share), "bilinear");
}

/**
 * Return the image (RGB bytes) overlaid with one class's activation map, which is more opaque where it is stronger.
 *
 * map: {data, width, height}, raw values ≥ 0. scale: the value drawn at full strength, a constant of the model and class.
 */
export function overlay(image, map, scale) {
  const share = { ...map, data: map.data.map((value) => Math.min(1, value / scale)) };
  const data = image.data.slice();
  resize(share, image.width, image.height, "bicubic").data.forEach((value, pixel) => {
    const level = toLevel(value);
    const opacity = Math.round(level * MAX_OPACITY);
    for (let channel = 0; channel < 3; channel += 1) {
      const at = pixel * 3 + channel;
      data[at] = (COLOURS[level][channel] * opacity + data[at] * (255 - opacity)) / 255;
    }
  });
  return { ...image, data };
}

function toLevel(share) {
  return Math.trunc(Math.min(1, Math.max(0, share)) * 255 + 0.5);
}
