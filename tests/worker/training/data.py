"""Folders of little photographs with their CSV files of diagnoses."""

from pathlib import Path

from tests import images

ISIC_2017 = "image_id,melanoma,seborrheic_keratosis"


def write_data(folder: Path, rows: tuple[str, ...], header: str = ISIC_2017, id_column: int = 0) -> tuple[Path, Path]:
    """Write a photograph of its own look per row, and the CSV file; return both places."""
    photographs = folder / "images"
    photographs.mkdir(parents=True)
    for number, row in enumerate(rows):
        picture = images.lesion(96 + number, 72).rotate(45 * number)
        name = row.split(",")[id_column].removesuffix(".jpg")
        (photographs / f"{name}.jpg").write_bytes(images.encode(picture, "JPEG"))
    labels = folder / "labels.csv"
    labels.write_text("\n".join((header, *rows)) + "\n")
    return photographs, labels
