"""Measures what the quality gate says of folders of images, and so how often its warnings are right."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from shared.bundle import Figure
from shared.errors import ImageRejected, InputUnusable
from shared.photograph import decode_photograph
from worker.frame import DECODED_SIDE, prepare_frame, squash_frame
from worker.model import Model
from worker.quality import NOT_DERMOSCOPIC, inspect_frame
from worker.training.batches import OnDone, OnProgress, in_batches
from worker.training.figures import exact_interval
from worker.training.labels import SUFFIXES, list_photographs


def _blurred(radius_px: float) -> Callable[[Image.Image], Image.Image]:
    return lambda frame: frame.filter(ImageFilter.GaussianBlur(radius_px))


def _lit(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda frame: frame.point(lambda level: min(255, round(level * factor)))


WORSE = {
    "blurred, 4 px": _blurred(4),
    "blurred, 8 px": _blurred(8),
    "a tenth of the light": _lit(0.1),
    "three times the light": _lit(3),
    "five times the light": _lit(5),
}
"""How squashed frames of 256 px are degraded."""


@dataclass(frozen=True)
class Flags:
    """What was said of each image of a kind: warnings, or the code of its rejection."""

    kind: str
    codes: tuple[tuple[str, ...], ...]

    @property
    def flagged(self) -> Figure:
        """The share of images that got a warning or were rejected."""
        return self._share(map(bool, self.codes))

    def of(self, code: str) -> Figure:
        """Return the share of images that got this code."""
        return self._share(code in said for said in self.codes)

    def _share(self, flags: Iterable[bool]) -> Figure:
        hits, n = sum(flags), len(self.codes)
        low, high = exact_interval(hits, n)
        return Figure(value=hits / n, low=low, high=high, n=n)


def flag_images(model: Model, kind: str, folder: Path, on_progress: OnProgress) -> Flags:
    """Return what a worker would say of every image in a folder and its subfolders.

    Raises:
        InputUnusable: `data_unusable`: there is none.
    """
    return Flags(kind, tuple(_flag(model, _read_frame, _find(folder), partial(on_progress, kind))))


def flag_worse(model: Model, kind: str, folder: Path, on_progress: OnProgress) -> Iterator[Flags]:
    """Yield what a worker would say of a folder's images degraded in each way of `WORSE`.

    Raises:
        InputUnusable: `data_unusable`: there is no image.
    """
    files = _find(folder)
    for way, worsen in WORSE.items():
        name = f"{kind}, {way}"

        def read_worse(file: Path, worsen: Callable = worsen) -> np.ndarray:
            return squash_frame(worsen(Image.fromarray(_read_frame(file))))

        yield Flags(name, tuple(_flag(model, read_worse, files, partial(on_progress, name))))


def _find(folder: Path) -> list[Path]:
    files = list_photographs(folder.rglob("*"))
    if not files:
        raise InputUnusable("data_unusable", f"There is no image ({', '.join(SUFFIXES)}) in {folder}.")
    return files


def _read_frame(file: Path) -> np.ndarray:
    return squash_frame(decode_photograph(file.read_bytes(), DECODED_SIDE))


def _flag(
    model: Model, read: Callable[[Path], np.ndarray], files: Sequence[Path], on_done: OnDone
) -> Iterator[tuple[str, ...]]:
    def inspect(file: Path) -> tuple[np.ndarray, tuple[str, ...]] | str:
        try:
            frame = read(file)
            return prepare_frame(frame, model.manifest.preprocessing), inspect_frame(frame)
        except ImageRejected as rejection:
            return rejection.code

    with ThreadPoolExecutor() as pool:
        for batch in in_batches(files, on_done):
            inspected = list(pool.map(inspect, batch))
            taken = [pixels for pixels, _ in (item for item in inspected if not isinstance(item, str))]
            unfamiliar = iter(model.read(np.stack(taken)).unfamiliar if taken else ())
            for item in inspected:
                yield (item,) if isinstance(item, str) else item[1] + ((NOT_DERMOSCOPIC,) if next(unfamiliar) else ())
