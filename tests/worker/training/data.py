"""What trainings in tests start from: small photographs with their CSV files, a tiny network, a short recipe."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from shared.domain import CLASSES
from tests import images
from worker.frame import TRAINING_SIDE
from worker.training.dataset import LabelledImages
from worker.training.recipe import Recipe

ISIC_2017 = "image_id,melanoma,seborrheic_keratosis"
MASK_SIDE = 64


def write_data(folder: Path, rows: tuple[str, ...], header: str = ISIC_2017, id_column: int = 0) -> tuple[Path, Path]:
    """Write a different photograph per row, and the CSV file; return the paths of the folder and the file."""
    photographs = folder / "images"
    photographs.mkdir(parents=True)
    for number, row in enumerate(rows):
        picture = images.lesion(96 + number, 72).rotate(45 * number)
        name = row.split(",")[id_column].removesuffix(".jpg")
        (photographs / f"{name}.jpg").write_bytes(images.encode(picture, "JPEG"))
    labels = folder / "labels.csv"
    labels.write_text("\n".join((header, *rows)) + "\n")
    return photographs, labels


class TinyLesionNetwork(nn.Module):
    """Stands in for the real ones in trainings: a convolution, batch normalisation, a classifier."""

    def __init__(self, n_classes: int = 3, architecture: str = "resnet50-v1"):
        super().__init__()
        self.architecture = architecture
        self.features = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.BatchNorm2d(6), nn.ReLU())
        self.classifier = nn.Linear(6, n_classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(pixels)
        return self.classifier(features.mean(dim=(2, 3))), features


def tiny_recipe(**changes) -> Recipe:
    values = {
        "network": "resnet50-v1",
        "input_side": 32,
        "epochs": 3,
        "batch_size": 4,
        "backbone_learning_rate": 1e-2,
        "head_learning_rate": 1e-2,
        "ema_decay": 0.5,
        "seed": 1,
    }
    return Recipe(**values | changes)


def coloured_images(n: int = 24, seed: int = 0, side: int = TRAINING_SIDE) -> LabelledImages:
    """Return images whose class is their colour: brownish noise, more red for melanomas, more blue for nevi."""
    random = np.random.default_rng(seed)
    labels = torch.arange(n) % 3
    pixels = random.integers(60, 160, (n, side // 8, side // 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    for channel in range(3):
        pixels[labels.numpy() == channel, ..., channel] += 90
    names = tuple(f"I{number}" for number in range(n))
    return LabelledImages(
        names, torch.from_numpy(pixels.astype(np.uint8)), labels, names, CLASSES, {}, f"digest {seed}"
    )


def write_mask(path: Path, rows: slice, columns: slice) -> None:
    """Write a mask whose lesion is this rectangle."""
    mask = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    mask[rows, columns] = 255
    Image.fromarray(mask).save(path)
