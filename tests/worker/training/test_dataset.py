"""The ISIC archive's layout, and what is said of data that cannot be used."""

from pathlib import Path

import numpy as np
import pytest

from shared.domain import CLASSES
from shared.errors import ConfigurationInvalid
from tests import images
from worker.training.dataset import read_isic

HEADER = "image_id,melanoma,seborrheic_keratosis"
ROWS = ("A,1.0,0.0", "B,0.0,1.0", "C,0,0")


def write_dataset(folder: Path, rows: tuple[str, ...] = ROWS, header: str = HEADER) -> tuple[Path, Path]:
    """Write an image per row and the CSV; return both places."""
    photographs = folder / "images"
    photographs.mkdir()
    for row in rows:
        (photographs / f"{row.split(',')[0]}.jpg").write_bytes(images.encode(images.lesion(96, 72), "JPEG"))
    labels = folder / "labels.csv"
    labels.write_text("\n".join((header, *rows)) + "\n")
    return photographs, labels


def test_images_are_read_in_the_order_of_the_csv_with_neither_meaning_nevus(tmp_path):
    dataset = read_isic(*write_dataset(tmp_path), side=32)
    assert dataset.ids == ("A", "B", "C")
    assert [CLASSES[label] for label in dataset.labels] == ["melanoma", "seborrheic_keratosis", "nevus"]
    assert dataset.pixels.shape == (3, 32, 32, 3)
    assert dataset.pixels.numpy().dtype == np.uint8


def test_the_digest_changes_with_a_label(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = read_isic(*write_dataset(tmp_path / "a", (*ROWS, "D,0,0")), side=32)
    other = read_isic(*write_dataset(tmp_path / "b", (*ROWS, "D,1,0")), side=32)
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("rows", "header", "code", "named"),
    [
        ((*ROWS, "D,0.5,0"), HEADER, "label_unknown", "line 5"),
        ((*ROWS, "D,1,1"), HEADER, "label_unknown", "D"),
        ((*ROWS, "D,yes,0"), HEADER, "labels_malformed", "line 5"),
        (ROWS, "image_id,melanoma,sk", "labels_malformed", "seborrheic_keratosis"),
        (ROWS[:1], HEADER, "class_without_samples", "seborrheic_keratosis"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_with_the_place(tmp_path, rows, header, code, named):
    with pytest.raises(ConfigurationInvalid, match=named) as refusal:
        read_isic(*write_dataset(tmp_path, rows, header), side=32)
    assert refusal.value.code == code


def test_a_missing_image_is_named(tmp_path):
    photographs, labels = write_dataset(tmp_path)
    (photographs / "B.jpg").unlink()
    with pytest.raises(ConfigurationInvalid, match="No image B") as refusal:
        read_isic(photographs, labels, side=32)
    assert refusal.value.code == "image_missing"


def test_an_unreadable_image_is_named(tmp_path):
    photographs, labels = write_dataset(tmp_path)
    (photographs / "C.jpg").write_bytes(b"text")
    with pytest.raises(ConfigurationInvalid, match=r"C\.jpg") as refusal:
        read_isic(photographs, labels, side=32)
    assert refusal.value.code == "image_unreadable"
