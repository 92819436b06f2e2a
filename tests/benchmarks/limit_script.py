"""The limit's own process: decodes files and runs the network in batches, and does nothing else.

Called as: limit_script.py MODEL SIDE. Each line of its input is a JSON object: `photographs` (paths), and `decoders`,
`lanes` and `threads` as in `tests.benchmarks.limit.Setting`. Each is answered by a line, the seconds that it took.
"""

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial

import numpy as np
from onnxruntime import InferenceSession, SessionOptions
from PIL import Image

BATCH = 16


def classify(session: InferenceSession, photographs: Sequence[str], side: int, decoders: int, lanes: int) -> np.ndarray:
    """Return the logits of N photographs, float32 (N, classes)."""
    with ThreadPoolExecutor(decoders) as decoding, ThreadPoolExecutor(lanes) as running:
        pixels = [decoding.submit(_decode, photograph, side) for photograph in photographs]
        batches = [pixels[begin : begin + BATCH] for begin in range(0, len(pixels), BATCH)]
        return np.concatenate(list(running.map(partial(_forward, session), batches)))


def _decode(photograph: str, side: int) -> np.ndarray:
    with Image.open(photograph) as image:
        image.draft("RGB", (side, side))
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def _forward(session: InferenceSession, pixels: Sequence[Future[np.ndarray]]) -> np.ndarray:
    batch = np.stack([each.result() for each in pixels])
    return session.run(["logits"], {"pixels": batch})[0]


def open_session(model: str, threads: int) -> InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait take the processor away from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return InferenceSession(model, options, ["CPUExecutionProvider"])


def main(model: str, side: int) -> None:
    session_of = cache(partial(open_session, model))
    for line in sys.stdin:
        asked = json.loads(line)
        session = session_of(asked["threads"])
        begun_s = time.perf_counter()
        classify(session, asked["photographs"], side, asked["decoders"], asked["lanes"])
        print(time.perf_counter() - begun_s, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
