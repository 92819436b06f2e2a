"""Reads CSV files of diagnoses, of the ISIC archive and others; the columns tell which layout it is."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_ENDING = "_segmentation"
"""What the ISIC archive appends to an image's name for the outline of its lesion."""

DIAGNOSES = {
    "mel": "melanoma",
    "nv": "nevus",
    "nev": "nevus",
    # Wider than its name in HAM10000 and ISIC: solar lentigo and lichen-planus-like keratosis, too.
    "bkl": "seborrheic_keratosis",
    "sek": "seborrheic_keratosis",
    "bcc": "basal_cell_carcinoma",
    "akiec": "actinic_keratosis",
    "ak": "actinic_keratosis",
    "ack": "actinic_keratosis",
    "df": "dermatofibroma",
    "vasc": "vascular_lesion",
    "scc": "squamous_cell_carcinoma",
    "unk": "unknown",
}
DIAGNOSES |= {name: name for name in DIAGNOSES.values()}
"""What the data sets' codes, and the diagnoses' full names, mean; both in lower case."""


@dataclass(frozen=True)
class Label:
    """One row. Images of one `group` show the same lesion or patient; `place` is file and line, for errors."""

    image_id: str
    diagnosis: str
    group: str
    place: str


def read_labels(ground_truth: Path, problems: list[str]) -> list[Label]:
    """Return the rows that can be used, and append a sentence with file and line to `problems` for each other one."""
    labels = []
    try:
        with ground_truth.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            layout = _recognise(rows.fieldnames or ())
            for line, row in enumerate(rows, start=2):
                place = f"{ground_truth.name} line {line}"
                try:
                    image, diagnosis, group = layout(row)
                    image_id = image_id_of(image)
                except (KeyError, TypeError, ValueError) as error:
                    problems.append(f"{place}: no diagnosis can be read ({error}).")
                    continue
                labels.append(Label(image_id, diagnosis, group or image_id, place))
    except (OSError, UnicodeDecodeError, csv.Error, _UnknownLayout) as error:
        problems.append(f"{ground_truth.name}: {error}")
    return labels


def ids_of(ground_truths: Iterable[Path], diagnoses: Sequence[str]) -> list[str]:
    """Return the ids of the images of these diagnoses; `read_labels` reports rows that cannot be used."""
    labels = (label for file in ground_truths for label in read_labels(file, problems=[]))
    return [label.image_id for label in labels if label.diagnosis in diagnoses]


class _UnknownLayout(Exception):
    pass


Layout = Callable[[dict[str, str]], tuple[str, str, str]]
"""A row's image, its diagnosis, and its group or an empty string."""


def _recognise(columns) -> Layout:
    for needed, layout in _LAYOUTS.items():
        if set(needed) <= set(columns):
            return layout
    known = "; ".join(", ".join(needed) for needed in _LAYOUTS)
    raise _UnknownLayout(f"the columns are {', '.join(columns) or 'missing'}; one of these sets is needed: {known}.")


def _isic_2017(row: dict[str, str]) -> tuple[str, str, str]:
    flags = float(row["melanoma"]), float(row["seborrheic_keratosis"])
    named = {(1, 0): "melanoma", (0, 1): "seborrheic_keratosis", (0, 0): "nevus"}
    if flags not in named:
        raise ValueError(f"melanoma {flags[0]:g} and seborrheic_keratosis {flags[1]:g} for {row['image_id']}")
    return row["image_id"], named[flags], row.get("lesion_id") or ""


def _one_hot(row: dict[str, str]) -> tuple[str, str, str]:
    chosen = [name for column, name in _by_column(row).items() if float(row[column]) == 1]
    if len(chosen) != 1:
        raise ValueError(f"{len(chosen)} diagnoses are 1 for {row['image']}")
    return row["image"], chosen[0], row.get("lesion_id") or ""


def _by_column(row: dict[str, str]) -> dict[str, str]:
    return {column: DIAGNOSES[column.lower()] for column in row if column and column.lower() in DIAGNOSES}


def _ham10000(row: dict[str, str]) -> tuple[str, str, str]:
    return row["image_id"], _named(row["dx"]), row["lesion_id"]


def _pad_ufes_20(row: dict[str, str]) -> tuple[str, str, str]:
    return row["img_id"], _named(row["diagnostic"]), row["patient_id"]


def _by_patient(row: dict[str, str]) -> tuple[str, str, str]:
    return row["image"], _named(row["label"]), row["patient"]


def _named(code: str) -> str:
    try:
        return DIAGNOSES[code.lower().replace(" ", "_")]
    except (KeyError, AttributeError) as error:
        raise ValueError(f"{code!r} is not one of {', '.join(DIAGNOSES)}") from error


_LAYOUTS: dict[tuple[str, ...], Layout] = {
    ("image_id", "melanoma", "seborrheic_keratosis"): _isic_2017,
    ("image", "MEL", "NV", "BKL"): _one_hot,  # ISIC-2018 and 2019
    ("image_id", "lesion_id", "dx"): _ham10000,
    ("img_id", "patient_id", "diagnostic"): _pad_ufes_20,
    ("image", "patient", "label"): _by_patient,
}


def list_photographs(files: Iterable[Path]) -> list[Path]:
    """Return the photographs in order: neither outlines nor superpixels, which the ISIC archive keeps beside them."""
    others = (MASK_ENDING, "_superpixels")
    return sorted(file for file in files if file.suffix.lower() in SUFFIXES and not file.stem.endswith(others))


def image_id_of(image: str) -> str:
    """Return the id of an image that a CSV file names: its file's name, without folders and suffix."""
    path = Path(image)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
