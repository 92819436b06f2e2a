// The portable model: one file, run by ONNX Runtime Web on one CPU thread.
import { readMetadata } from "./metadata.js";
import { env, InferenceSession, Tensor } from "./onnxruntime/ort.wasm.bundle.min.js";

const RUNTIME = "onnxruntime/ort-wasm-simd-threaded.wasm.gzip";

/** The model file is not beside this page. */
export class ModelMissing extends Error {}

/** Load the runtime and the model. Throws ModelMissing. */
export async function loadModel() {
  const found = await fetch("portable.onnx");
  if (!found.ok) throw new ModelMissing();
  const file = new Uint8Array(await found.arrayBuffer());
  env.wasm.numThreads = 1; // more threads need headers that a plain file server does not send
  env.wasm.wasmBinary = await fetchInflated(RUNTIME);
  return describe(readMetadata(file), await InferenceSession.create(file));
}

function describe(said, session) {
  const points = JSON.parse(said.operating_points);
  return {
    ...said,
    labels: JSON.parse(said.labels),
    limits: JSON.parse(said.limits),
    scales: JSON.parse(said.heatmap_scales),
    steps: JSON.parse(said.preprocessing).steps,
    point: points.find((point) => point.name === said.default_operating_point),
    read: (pixels, side) => read(session, pixels, side),
  };
}

/** Return each class's probability and raw activation map for pixels, RGB bytes (side, side, 3). */
async function read(session, pixels, side) {
  const input = new Tensor("uint8", new Uint8Array(pixels.buffer), [1, side, side, 3]);
  const { probabilities, maps } = await session.run({ pixels: input });
  const [, classes, height, width] = maps.dims;
  const cells = height * width;
  return {
    probabilities: Array.from(probabilities.data),
    maps: Array.from({ length: classes }, (_, index) => ({
      data: maps.data.slice(index * cells, (index + 1) * cells),
      width,
      height,
    })),
  };
}

async function fetchInflated(address) {
  const packed = await fetch(address);
  return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
