// Pillow's resize, bit for bit (libImaging/Resample.c), so that the model's input is the same here as on the server.
// An image is {data, width, height}: bytes (Uint8ClampedArray) or floats (Float32Array), row-major, channels last.
const FILTERS = {
  bilinear: { reach: 1, weigh: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, weigh: (x) => weighCubic(Math.abs(x)) },
};
const CUBIC = -0.5; // Keys 1981
const FIXED_POINT_BITS = 22;

/** Return the image at another size; on shrinking, the filter widens to cover all that becomes one pixel. */
export function resize(image, width, height, filter) {
  const isRatherTall = image.height - height > 2 * Math.max(0, image.width - width); // Pillow 13 then begins with the height
  return isRatherTall
    ? resizeWidth(resizeHeight(image, height, filter), width, filter)
    : resizeHeight(resizeWidth(image, width, filter), height, filter);
}

function resizeWidth({ data, width, height }, to, filter) {
  const channels = data.length / width / height;
  return { data: resizeAxis(data, height, width, channels, to, FILTERS[filter]), width: to, height };
}

function resizeHeight({ data, width, height }, to, filter) {
  return { data: resizeAxis(data, 1, height, data.length / height, to, FILTERS[filter]), width, height: to };
}

/** Resize the middle axis of data laid out as outer × from × inner. */
function resizeAxis(data, outer, from, inner, to, filter) {
  const isWhole = data instanceof Uint8ClampedArray;
  const resized = new data.constructor(outer * to * inner);
  listTaps(from, to, filter).forEach(({ first, weights }, position) => {
    const factors = isWhole ? weights.map(toFixedPoint) : weights;
    for (let line = 0; line < outer; line += 1) {
      for (let index = 0; index < inner; index += 1) {
        let sum = isWhole ? 1 << (FIXED_POINT_BITS - 1) : 0;
        let at = (line * from + first) * inner + index;
        for (const factor of factors) {
          sum += data[at] * factor;
          at += inner;
        }
        resized[(line * to + position) * inner + index] = isWhole ? sum >> FIXED_POINT_BITS : sum;
      }
    }
  });
  return resized;
}

/** Return, for each new position, the first old position that contributes and the weights, which sum to one. */
function listTaps(from, to, { reach, weigh }) {
  const scale = from / to;
  const widened = Math.max(1, scale);
  return Array.from({ length: to }, (_, position) => {
    const centre = (position + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach * widened + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach * widened + 0.5));
    const weights = Array.from({ length: end - first }, (_, tap) => weigh((first + tap - centre + 0.5) / widened));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

function weighCubic(x) {
  if (x < 1) return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * CUBIC : 0;
}

function toFixedPoint(weight) {
  return Math.trunc(weight * (1 << FIXED_POINT_BITS) + Math.sign(weight) * 0.5);
}
