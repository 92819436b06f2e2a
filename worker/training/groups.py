"""Figures by age, sex and skin type, where a CSV file states them."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from shared.bundle import Figure
from shared.errors import InputUnusable
from worker.training.figures import Readings, measure
from worker.training.labels import image_id_of

NOT_STATED = "not stated"
LEAST = 10
"""With fewer melanomas or fewer other lesions, there are no figures: a single lesion could reverse them."""

_AGE_BANDS = ((75, "75 and over"), (60, "60 to 74"), (45, "45 to 59"), (30, "30 to 44"), (0, "under 30"))
_COLUMNS = {
    "image": ("image_id", "image", "isic_id", "img_id"),
    "age": ("age", "age_approximate", "age_approx"),
    "sex": ("sex", "gender"),
    "skin type": ("fitzpatrick", "skin_type", "fitzpatrick_skin_type", "fitspatrick"),  # the last is PAD-UFES-20's
}
_ORDER = {
    "age": tuple(name for _, name in reversed(_AGE_BANDS)),
    "sex": ("female", "male"),
    "skin type": ("1", "2", "3", "4", "5", "6"),
}

People = dict[str, dict[str, str]]
"""By image: its patient's `age` band, `sex` and `skin type` (Fitzpatrick 1988, 1 to 6), as far as stated."""


class Group(BaseModel):
    """Figures of some of the images; none if there are too few."""

    by: str
    name: str
    n: int
    n_melanoma: int
    figures: dict[str, Figure]


def read_people(paths: Sequence[Path]) -> People:
    """Read CSV files with a column `image_id`, and `age` (or `age_approximate`), `sex`, `fitzpatrick` or several.

    Raises:
        InputUnusable: `metadata_malformed`; the message names the file.
    """
    people: People = {}
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                _add_people(people, csv.DictReader(file), path.name)
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputUnusable("metadata_malformed", f"{path.name} is not a CSV file in UTF-8: {error}.") from error
    return people


def _add_people(people: People, rows: csv.DictReader, name: str) -> None:
    present = set(rows.fieldnames or ())
    columns = {what: next((n for n in names if n in present), None) for what, names in _COLUMNS.items()}
    if not columns["image"] or not any(columns[what] for what in _ORDER):
        raise InputUnusable(
            "metadata_malformed", f"{name} needs the columns image_id and age (or age_approximate), sex or fitzpatrick."
        )
    for row in rows:
        people.setdefault(image_id_of(row[columns["image"]] or ""), {}).update(_stated(row, columns))


def _stated(row: dict[str, str], columns: dict[str, str | None]) -> dict[str, str]:
    said = {what: (row[columns[what]] or "").lower() if columns[what] else "" for what in _ORDER}
    stated = said | {"age": age_band(said["age"]), "skin type": said["skin type"].removesuffix(".0")}
    return {what: value for what, value in stated.items() if value and value != "unknown"}


def age_band(age: str | None) -> str | None:
    """Return the band of an age in years, None if it is not a number."""
    try:
        years = float(age or "")
    except ValueError:
        return None
    return next((name for least, name in _AGE_BANDS if years >= least), None)


def measure_groups(readings: Readings, people: People) -> list[Group]:
    """Return the figures by group; images whose group is not stated form one of their own."""
    return [_measure_group(by, name, readings.take(rows)) for by, name, rows in divide(readings.ids, people)]


def divide(ids: np.ndarray, people: People) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield each group of these images: by what, its name, a mask. Attributes stated for none are skipped."""
    for by, order in _ORDER.items():
        group_of = np.array([people.get(image_id, {}).get(by, NOT_STATED) for image_id in ids])
        others = sorted(set(group_of) - {*order, NOT_STATED})
        if set(group_of) != {NOT_STATED}:
            for name in (*order, *others, NOT_STATED):
                if (rows := group_of == name).any():
                    yield by, name, rows


def _measure_group(by: str, name: str, readings: Readings) -> Group:
    n_melanoma = len(np.unique(readings.ids[readings.melanoma]))
    enough = min(n_melanoma, readings.n_images - n_melanoma) >= LEAST
    figures = measure(readings) if enough else {}
    return Group(by=by, name=name, n=readings.n_images, n_melanoma=n_melanoma, figures=figures)
