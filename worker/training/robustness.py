"""How much a bundle's answer depends on what the lesion has no part in: each disturbance against none, in pairs."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from PIL import Image
from pydantic import BaseModel

from shared.bundle import Figure
from shared.errors import ConfigurationInvalid
from worker.frame import squash
from worker.model import Model
from worker.training.dataset import Source, read_images
from worker.training.disturbances import DISTURBANCES, Change, disturb
from worker.training.figures import MELANOMA, Ranking, Readings, find_figures

TARGET_DROP = 0.015
"""Of melanoma AUC: what a disturbance may cost at the most."""

_BATCH = 32


class Robustness(BaseModel):
    """What one disturbance does: melanoma AUC under it, how much less that is than without it, the sensitivity at the
    default operating point, and the share of decisions there that turn.
    """

    disturbance: str
    auc_melanoma: Figure
    auc_drop: Figure
    sensitivity: Figure
    turned: Figure


def measure_robustness(
    model: Model, sources: Sequence[Source], undisturbed: Readings, on_step: Callable[[str, int, int], None]
) -> list[Robustness]:
    """Disturb every image that was read, as it is at `TRAINING_SIDE` before the bundle's preprocessing, and read it.

    Raises:
        ConfigurationInvalid: `data_unusable`: there are no melanomas among the images, or nothing else.
    """
    if undisturbed.melanoma.all() or not undisturbed.melanoma.any():
        raise ConfigurationInvalid("data_unusable", "Disturbances are measured on melanomas and other lesions.")
    images = read_images(sources, classes=None)
    pixels = dict(zip(images.ids, images.pixels.numpy(), strict=True))
    found = []
    for name, change in DISTURBANCES.items():
        step = partial(on_step, name)
        probabilities = _read_disturbed(model, [(i, pixels[i]) for i in undisturbed.ids], change, step)
        found.append(_compare(name, undisturbed, probabilities[:, MELANOMA], model))
    return found


def _read_disturbed(
    model: Model, images: list[tuple[str, np.ndarray]], change: Change, on_step: Callable[[int, int], None]
) -> np.ndarray:
    """Return probabilities (n, classes)."""
    preprocessing, probabilities = model.manifest.preprocessing, []

    def prepare(image: tuple[str, np.ndarray]) -> np.ndarray:
        return squash(disturb(Image.fromarray(image[1]), image[0], change), preprocessing)

    with ThreadPoolExecutor() as pool:
        for begin in range(0, len(images), _BATCH):
            batch = images[begin : begin + _BATCH]
            probabilities.append(model.read(np.stack(list(pool.map(prepare, batch)))).probabilities)
            on_step(begin + len(batch), len(images))
    return np.concatenate(probabilities)


def _compare(name: str, undisturbed: Readings, disturbed: np.ndarray, model: Model) -> Robustness:
    """`disturbed`: melanoma probabilities (n,) of the same images."""
    point, melanoma = model.manifest.operating_point(), undisturbed.melanoma
    before = Ranking(undisturbed.probabilities[:, MELANOMA], melanoma)
    after = Ranking(disturbed, melanoma)
    referred = disturbed >= point.threshold
    turned = referred != undisturbed.referred[point.name]
    figures = find_figures(
        undisturbed,
        {"auc_melanoma": after.auc, "auc_drop": lambda weights: before.auc(weights) - after.auc(weights)},
        {"sensitivity": (referred, melanoma), "turned": (turned, np.full(len(turned), True))},
    )
    return Robustness(disturbance=name, **figures)
