"""Localisation: how much of the heatmap of melanoma lies inside the lesion's outline.

`peak_inside` is the pointing game (Zhang et al. 2018, IJCV 126:1084), `energy_inside` the energy-based pointing game
(Wang et al. 2020, Score-CAM, arXiv 1910.01279). And how often the warning `attention_off_lesion`, which only guesses
where the lesion is, is right.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel

from shared.bundle import Figure
from shared.domain import CLASSES
from shared.errors import InputUnusable
from shared.heatmap import scale_to_saliency, upsample
from worker.lesion import LEAST_INSIDE, is_visible
from worker.training.figures import Readings, find_figures, mean
from worker.training.labels import MASK_ENDING, SUFFIXES

_INSIDE = 128  # of 255


@dataclass(frozen=True)
class Heatmaps:
    """Heatmaps of melanoma and what a worker makes of them.

    `maps`: raw Grad-CAM, float32 (n, h, w); `scale` draws them as saliency; `warned`: bool (n,), whether a result has
    the warning `attention_off_lesion`.
    """

    maps: np.ndarray
    scale: float
    warned: np.ndarray


class Localisation(BaseModel):
    """Of one diagnosis: the share of the heatmaps' energy (the sum of values) inside the outline, and of peaks.

    `best_energy`: the share of energy that the outline itself would get, drawn as a map of as few cells.
    `lesion_share`: the lesion's share of the picture, which a uniform heatmap would get. `blank` maps, where nothing
    speaks for melanoma, do not count.
    """

    diagnosis: str
    blank: int
    energy_inside: Figure
    peak_inside: Figure
    best_energy: Figure
    lesion_share: Figure


class OffLesionWarnings(BaseModel):
    """How many of `n` results carry `attention_off_lesion`, how many of these rightly, and how many should.

    It is right where a visible heatmap has less than `LEAST_INSIDE` of its energy inside the true outline.
    """

    n: int
    warned: int
    right: int
    off_lesion: int


def find_masks(folder: Path, ids: Iterable[str]) -> dict[str, Path]:
    """Return each image's mask: named as the image is, or with `_segmentation` appended, which takes precedence.

    Raises:
        InputUnusable: `masks_unusable`: one is missing.
    """
    # The photographs may lie there, too: of two files for one image, the last counts.
    ordered = sorted(folder.iterdir(), key=lambda file: file.stem.endswith(MASK_ENDING))
    files = {file.stem.removesuffix(MASK_ENDING): file for file in ordered if file.suffix.lower() in SUFFIXES}
    if missing := [image_id for image_id in ids if image_id not in files]:
        raise InputUnusable("masks_unusable", f"{folder} has no mask for {len(missing)} images, such as {missing[0]}.")
    return files


def measure_localisation(readings: Readings, maps: np.ndarray, masks: dict[str, Path]) -> list[Localisation]:
    """Compare raw Grad-CAM of melanoma, float32 (n, h, w), with the masks of the same images.

    A mask is white inside the lesion's outline, and shows the same frame as its image, at whatever size.

    Raises:
        InputUnusable: `masks_unusable`: one is not an image, or shows no lesion.
    """
    shares = np.array([_shares(map_, masks[i]) for i, map_ in zip(readings.ids, maps, strict=True)])
    among = [readings.labels == i for i in range(len(CLASSES))]
    return [
        _measure(name, readings.take(rows), shares[rows])
        for name, rows in zip(CLASSES, among, strict=True)
        if (rows & ~np.isnan(shares[:, 0])).any()
    ]


def count_warnings(readings: Readings, heatmaps: Heatmaps, masks: dict[str, Path]) -> OffLesionWarnings:
    """Compare the warnings, which guess where the lesion is, with the masks of the same images.

    Raises:
        InputUnusable: `masks_unusable`, as in `measure_localisation`.
    """
    drawn = [scale_to_saliency(map_, heatmaps.scale) for map_ in heatmaps.maps]
    off = np.array(
        [
            is_visible(saliency) and _inside(saliency, _read_mask(masks[i]))[0] < LEAST_INSIDE
            for i, saliency in zip(readings.ids, drawn, strict=True)
        ]
    )
    warned, right = heatmaps.warned.sum(), (heatmaps.warned & off).sum()
    return OffLesionWarnings(n=len(off), warned=int(warned), right=int(right), off_lesion=int(off.sum()))


def _measure(name: str, readings: Readings, shares: np.ndarray) -> Localisation:
    drawn = ~np.isnan(shares[:, 0])
    energy, peak, best, lesion = shares[drawn].T
    figures = find_figures(
        readings.take(drawn),
        {
            "energy_inside": partial(mean, energy),
            "best_energy": partial(mean, best),
            "lesion_share": partial(mean, lesion),
        },
        {"peak_inside": (peak == 1, np.full(len(peak), True))},
    )
    return Localisation(diagnosis=name, blank=int((~drawn).sum()), **figures)


def _shares(activation_map: np.ndarray, mask: Path) -> tuple[float, float, float, float]:
    """Return energy inside, whether the peak is (1 or 0), the outline's own energy inside, and the lesion's share.

    Energy and peak of a blank map are NaN.
    """
    inside = _read_mask(mask)
    height, width = activation_map.shape
    cells = Image.fromarray(inside.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    energy, peak = _inside(activation_map, inside)
    return energy, peak, _inside(np.asarray(cells), inside)[0], inside.mean()


def _read_mask(mask: Path) -> np.ndarray:
    """Return bool (h, w): what lies inside the lesion's outline."""
    try:
        with Image.open(mask) as image:
            inside = np.asarray(image.convert("L")) >= _INSIDE
    except OSError as error:
        raise InputUnusable("masks_unusable", f"{mask} is not an image.") from error
    if not inside.any():
        raise InputUnusable("masks_unusable", f"{mask} shows no lesion.")
    return inside


def _inside(activation_map: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    if not activation_map.any():
        return np.nan, np.nan
    drawn = upsample(activation_map, inside.shape[::-1]).clip(0)
    return drawn[inside].sum() / drawn.sum(), float(inside.flat[drawn.argmax()])
