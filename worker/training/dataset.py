"""Reads folders of images and their CSV files of diagnoses into memory, and reports all that is wrong with them."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.bundle import Preprocessing
from shared.domain import CLASSES
from shared.errors import ImageRejected, InputUnusable
from shared.photograph import decode_photograph
from worker.frame import DECODED_SIDE, TRAINING_SIDE, prepare_frame, retouch_frame, squash_frame
from worker.training.batches import OnDone
from worker.training.labels import SUFFIXES, Label, list_photographs, read_labels

_NAMED_PROBLEMS = 20

Source = tuple[Path, Path]
"""A folder of images and the CSV file with their diagnoses."""


@dataclass(frozen=True)
class LabelledImages:
    """Decoded images in memory.

    `pixels` is uint8 (n, side, side, 3); `labels` int64 (n,), indices into `classes`. Images of one group show the
    same lesion or patient. `left_out` counts the images of diagnoses that are not among `classes`. `digest` covers
    names, labels and files.
    """

    ids: tuple[str, ...]
    pixels: Tensor
    labels: Tensor
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    left_out: dict[str, int]
    digest: str

    def __len__(self) -> int:
        return len(self.ids)

    def count(self) -> dict[str, int]:
        """Return how many images each class has."""
        return dict(zip(self.classes, torch.bincount(self.labels, minlength=len(self.classes)).tolist(), strict=True))

    def subset(self, rows: np.ndarray) -> "LabelledImages":
        """Return a copy of some of the images, with a digest of its own."""
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            pixels=self.pixels[rows],
            labels=self.labels[rows],
            groups=tuple(self.groups[row] for row in rows),
            digest=digest_rows(self.digest, rows),
        )


@dataclass(frozen=True)
class UnlabelledImages:
    """Decoded images without labels: `pixels` is uint8 (n, side, side, 3); `digest` covers the files."""

    ids: tuple[str, ...]
    pixels: Tensor
    digest: str

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, rows: np.ndarray) -> "UnlabelledImages":
        """Return a copy of some of the images, with a digest of its own."""
        ids = tuple(self.ids[row] for row in rows)
        return UnlabelledImages(ids, self.pixels[rows], digest_rows(self.digest, rows))


def digest_rows(digest: str, rows: np.ndarray) -> str:
    """Return the digest of a subset of images with this digest."""
    return hashlib.sha256(digest.encode() + rows.tobytes()).hexdigest()


Images = LabelledImages | UnlabelledImages


def read_images(
    sources: Sequence[Source],
    preprocessing: Preprocessing | None = None,
    classes: tuple[str, ...] | None = CLASSES,
    on_image: OnDone = lambda done, total: None,
) -> LabelledImages:
    """Read every image that the CSV files name: squashed frames, or what `preprocessing` makes of them.

    `classes` are those to tell apart; None means all diagnoses in the data.

    Raises:
        InputUnusable: `data_unusable`, with every row, image and class that is wrong or missing.
    """
    problems: list[str] = []
    found = _find_images(sources, problems)
    classes = classes or tuple(sorted({label.diagnosis for label, _ in found} - {"unknown"}))
    if not found and not problems:
        problems.append(f"{', '.join(labels.name for _, labels in sources)}: no image is named.")
    kept = [(label, path) for label, path in found if label.diagnosis in classes]
    left_out = Counter(label.diagnosis for label, _ in found if label.diagnosis not in classes)
    for name in set(classes) - {label.diagnosis for label, _ in kept}:
        problems.append(f"{', '.join(labels.name for _, labels in sources)}: there is no image of the class {name}.")
    pixels, digests = _decode_all([path for _, path in kept], preprocessing, problems, on_image)
    if problems:
        raise InputUnusable("data_unusable", _summary(problems))
    rows = [label for label, _ in kept]
    lines = (f"{row.image_id},{row.diagnosis},{digest}" for row, digest in zip(rows, digests, strict=True))
    return LabelledImages(
        ids=tuple(row.image_id for row in rows),
        pixels=torch.from_numpy(pixels),
        labels=torch.tensor([classes.index(row.diagnosis) for row in rows]),
        groups=tuple(row.group for row in rows),
        classes=classes,
        left_out=dict(left_out),
        digest=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
    )


def read_unlabelled(folder: Path, on_image: OnDone = lambda done, total: None) -> UnlabelledImages:
    """Read every image of a folder, whole frames squashed to `TRAINING_SIDE` px.

    Raises:
        InputUnusable: `data_unusable`: there is none, or one cannot be decoded.
    """
    paths = list_photographs(folder.iterdir())
    problems = [] if paths else [f"There is no image ({', '.join(SUFFIXES)}) in {folder}."]
    pixels, digests = _decode_all(paths, None, problems, on_image)
    if problems:
        raise InputUnusable("data_unusable", _summary(problems))
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()
    return UnlabelledImages(tuple(path.stem for path in paths), torch.from_numpy(pixels), digest)


def _find_images(sources: Sequence[Source], problems: list[str]) -> list[tuple[Label, Path]]:
    found, first_place = [], {}
    for folder, ground_truth in sources:
        files: dict[str, Path] = {}
        for file in sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES):
            if (first := files.setdefault(file.stem, file)) is not file:
                problems.append(f"{folder}: {first.name} and {file.name} have the same name: which one is meant?")
        for label in read_labels(ground_truth, problems):
            if label.image_id in first_place:
                problems.append(f"{label.place}: {label.image_id} is already in {first_place[label.image_id]}.")
            elif label.image_id not in files:
                problems.append(f"{label.place}: no image {label.image_id} ({', '.join(SUFFIXES)}) in {folder}.")
            else:
                found.append((label, files[label.image_id]))
            first_place.setdefault(label.image_id, label.place)
    return found


def _decode_all(
    paths: list[Path], preprocessing: Preprocessing | None, problems: list[str], on_image: OnDone
) -> tuple[np.ndarray, list[str]]:
    """Return pixels and the files' digests, decoded as by a worker, so that training and analysis see the same."""
    side = preprocessing.input_side if preprocessing else TRAINING_SIDE
    pixels, digests = np.zeros((len(paths), side, side, 3), np.uint8), []

    def decode(at: int) -> str | ImageRejected:
        data = paths[at].read_bytes()
        try:
            frame = squash_frame(decode_photograph(data, DECODED_SIDE))
        except ImageRejected as rejection:
            return rejection
        pixels[at] = prepare_frame(frame, preprocessing) if preprocessing else frame
        return hashlib.sha256(data).hexdigest()

    with ThreadPoolExecutor() as pool:
        for at, outcome in enumerate(pool.map(decode, range(len(paths)))):
            if isinstance(outcome, ImageRejected):
                problems.append(f"{paths[at]} cannot be used: {outcome.detail}")
            else:
                digests.append(outcome)
            on_image(at + 1, len(paths))
    return pixels, digests


def _summary(problems: list[str]) -> str:
    more = len(problems) - _NAMED_PROBLEMS
    named = "\n".join(f"  {problem}" for problem in problems[:_NAMED_PROBLEMS])
    return f"The data cannot be used as they are:\n{named}" + (f"\n  … and {more} more." if more > 0 else "")


def retouch(frames: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return squashed frames, uint8 (n, 256, 256, 3), retouched as this preprocessing says."""
    if not preprocessing.retouches:
        return frames
    return torch.from_numpy(np.stack([retouch_frame(frame, preprocessing) for frame in frames.numpy()]))


def prepare(frames: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return what a network reads of squashed frames, uint8 (n, side, side, 3)."""
    return torch.from_numpy(np.stack([prepare_frame(frame, preprocessing) for frame in frames.numpy()]))
