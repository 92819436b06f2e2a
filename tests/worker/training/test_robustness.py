"""What a disturbance costs is measured in pairs, on the same images that were read undisturbed."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.worker.networks import tiny_manifest
from worker.model import Reading
from worker.training.evaluation import read_with_bundle
from worker.training.robustness import measure_robustness


class BrightnessModel:
    """Takes what is bright for a melanoma: the mean of all values, over 255, is the probability."""

    manifest = tiny_manifest()  # refers from 0.2

    def read(self, pixels: np.ndarray) -> Reading:
        melanoma = pixels.mean(axis=(1, 2, 3)) / 255
        probabilities = np.stack([melanoma, 0 * melanoma, 1 - melanoma], axis=1)
        n = len(pixels)
        return Reading(
            probabilities, np.zeros((n, 3, 2, 2), np.float32), (np.zeros((n, 1), np.float32),), np.zeros(n, bool)
        )


def write_greys(folder: Path, levels: dict[str, int]) -> tuple[Path, Path]:
    """Write noise around a level for each row `image_id,melanoma,seborrheic_keratosis`."""
    (folder / "images").mkdir()
    for row, level in levels.items():
        noise = np.random.default_rng(0).integers(level - 9, level + 10, (64, 64, 3))
        Image.fromarray(noise.astype(np.uint8)).save(folder / "images" / f"{row[0]}.png")
    (folder / "labels.csv").write_text("\n".join(("image_id,melanoma,seborrheic_keratosis", *levels)) + "\n")
    return folder / "images", folder / "labels.csv"


def measure(folder: Path, levels: dict[str, int]) -> dict:
    model, source = BrightnessModel(), write_greys(folder, levels)
    steps = []
    subject = read_with_bundle(model, [source], lambda *step: None)
    found = measure_robustness(model, [source], subject.readings, lambda *step: steps.append(step))
    assert steps[-1] == ("ruler", len(levels), len(levels))
    return {robustness.disturbance: robustness for robustness in found}


def test_decisions_change_where_a_probability_crosses_the_threshold_though_the_ranking_stays(tmp_path):
    # The threshold is a mean of 51: 60 and 70 fall below it at 30% less, 90 and 120 do not.
    found = measure(tmp_path, {"A,1,0": 120, "B,1,0": 70, "C,0,0": 60, "D,0,0": 90})
    darker, untouched = found["brightness -30 %"], found["nothing"]
    assert (untouched.auc_melanoma.value, untouched.auc_drop.value, untouched.turned.value) == (0.75, 0, 0)
    assert (darker.auc_melanoma.value, darker.auc_drop.value) == (0.75, 0)
    assert (darker.turned.value, darker.turned.n) == (0.5, 4)
    assert (darker.sensitivity.value, darker.sensitivity.n) == (0.5, 2)


def test_a_drop_is_that_of_the_ranking_with_an_interval_of_its_own(tmp_path):
    # Where all values are clipped at 255, nothing is left to rank by: 197 and 240 become one.
    found = measure(tmp_path, {"A,1,0": 240, "B,1,0": 239, "C,0,0": 230, "D,0,0": 229})
    drop = found["brightness +30 %"].auc_drop
    assert (drop.value, drop.low, drop.high) == (0.5, 0.5, 0.5)
