"""Reads the ISIC archive's own layout: a folder of images and a ground-truth CSV."""

import csv
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.domain import CLASSES
from shared.errors import ConfigurationInvalid, ImageRejected
from shared.photograph import decode_photograph, squash

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class LabelledImages:
    """Decoded images in memory: `pixels` uint8 (n, side, side, 3), `labels` int64 (n,), indices into `CLASSES`."""

    ids: tuple[str, ...]
    pixels: Tensor
    labels: Tensor
    digest: str

    def __len__(self) -> int:
        return len(self.ids)


def read_isic(images: Path, ground_truth: Path, side: int) -> LabelledImages:
    """Read every image that the CSV names, whole frames squashed to `side` px.

    The CSV has `image_id, melanoma, seborrheic_keratosis` with values 0 and 1; neither means nevus (ISIC-2017 Part 3).

    Raises:
        ConfigurationInvalid: a row, an image or a class is missing or unusable; the sentence names it.
    """
    labels = _read_labels(ground_truth)
    paths = [_find_image(images, image_id) for image_id in labels]
    counts = np.bincount(list(labels.values()), minlength=len(CLASSES))
    for name, count in zip(CLASSES, counts, strict=True):
        if count == 0:
            raise ConfigurationInvalid("class_without_samples", f"{ground_truth.name} has no image of class {name}.")
    with ThreadPoolExecutor() as pool:
        pixels = np.stack(list(pool.map(lambda path: _read_squashed(path, side), paths)))
    digest = hashlib.sha256("\n".join(f"{i},{label}" for i, label in labels.items()).encode()).hexdigest()
    return LabelledImages(tuple(labels), torch.from_numpy(pixels), torch.tensor(list(labels.values())), digest)


def _read_labels(ground_truth: Path) -> dict[str, int]:
    labels = {}
    with ground_truth.open(newline="") as rows:
        for line, row in enumerate(csv.DictReader(rows), start=2):
            try:
                melanoma, keratosis = float(row["melanoma"]), float(row["seborrheic_keratosis"])
                image_id = row["image_id"]
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigurationInvalid(
                    "labels_malformed",
                    f"{ground_truth.name} line {line}: needs image_id, melanoma and seborrheic_keratosis (0 or 1).",
                ) from error
            if (melanoma, keratosis) not in ((0, 0), (1, 0), (0, 1)):
                raise ConfigurationInvalid(
                    "label_unknown", f"{ground_truth.name} line {line}: {image_id} has no label of {CLASSES}."
                )
            labels[image_id] = CLASSES.index(
                "melanoma" if melanoma else "seborrheic_keratosis" if keratosis else "nevus"
            )
    return labels


def _find_image(folder: Path, image_id: str) -> Path:
    for suffix in SUFFIXES:
        if (path := folder / f"{image_id}{suffix}").is_file():
            return path
    raise ConfigurationInvalid("image_missing", f"No image {image_id} ({', '.join(SUFFIXES)}) in {folder}.")


def _read_squashed(path: Path, side: int) -> np.ndarray:
    """Decode as a worker does: what is learnt and calibrated here must meet the same pixels there."""
    try:
        return squash(decode_photograph(path.read_bytes(), min_side=2 * side), side)
    except ImageRejected as error:
        raise ConfigurationInvalid("image_unreadable", f"{path} cannot be used: {error.detail}") from error
