"""Figures by age and sex, where a CSV file tells them."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from shared.bundle import Figure
from shared.errors import ConfigurationInvalid
from worker.training.figures import Readings, measure
from worker.training.labels import SUFFIXES

NOT_STATED = "not stated"
LEAST = 10
"""Of fewer melanomas or fewer other lesions nothing is said: one of them more or less would turn it round."""

_AGE_BANDS = ((75, "75 and over"), (60, "60 to 74"), (45, "45 to 59"), (30, "30 to 44"), (0, "under 30"))
_COLUMNS = {"image": ("image_id", "image", "isic_id"), "age": ("age", "age_approximate", "age_approx"), "sex": ("sex",)}

People = dict[str, dict[str, str]]
"""By image: its patient's `age` band and `sex`, as far as stated."""


class Group(BaseModel):
    """Figures of some of the images; none where there are too few to say anything."""

    by: str
    name: str
    n: int
    n_melanoma: int
    figures: dict[str, Figure]


def read_people(paths: Sequence[Path]) -> People:
    """Read CSV files with a column `image_id`, and `age` (or `age_approximate`), `sex` or both.

    Raises:
        ConfigurationInvalid: `metadata_malformed`; the sentence names the file.
    """
    people = {}
    for path in paths:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            present = set(rows.fieldnames or ())
            columns = {what: next((n for n in names if n in present), None) for what, names in _COLUMNS.items()}
            if not columns["image"] or not (columns["age"] or columns["sex"]):
                raise ConfigurationInvalid(
                    "metadata_malformed", f"{path.name} needs the columns image_id and age (or age_approximate) or sex."
                )
            people |= {_without_suffix(row[columns["image"]]): _stated(row, columns) for row in rows}
    return people


def _stated(row: dict[str, str], columns: dict[str, str | None]) -> dict[str, str]:
    stated = {"age": age_band(row.get(columns["age"] or "")), "sex": (row.get(columns["sex"] or "") or "").lower()}
    return {what: value for what, value in stated.items() if value and value != "unknown"}


def age_band(age: str | None) -> str | None:
    """Return the band of an age in years, None where it is no number."""
    try:
        years = float(age or "")
    except ValueError:
        return None
    return next((name for least, name in _AGE_BANDS if years >= least), None)


def _without_suffix(image: str) -> str:
    return Path(image).stem if Path(image).suffix.lower() in SUFFIXES else image


def measure_groups(readings: Readings, people: People) -> list[Group]:
    """Return the figures by age and by sex; images whose patient's is not stated are a group of their own."""
    groups = []
    for by, order in (("age", [name for _, name in reversed(_AGE_BANDS)]), ("sex", ["female", "male"])):
        group_of = np.array([people.get(image_id, {}).get(by, NOT_STATED) for image_id in readings.ids])
        others = sorted(set(group_of) - {*order, NOT_STATED})
        for name in (*order, *others, NOT_STATED):
            if (rows := group_of == name).any():
                groups.append(_measure_group(by, name, readings.take(rows)))
    return groups


def _measure_group(by: str, name: str, readings: Readings) -> Group:
    n_melanoma = len(np.unique(readings.ids[readings.melanoma]))
    enough = min(n_melanoma, readings.n_images - n_melanoma) >= LEAST
    figures = measure(readings) if enough else {}
    return Group(by=by, name=name, n=readings.n_images, n_melanoma=n_melanoma, figures=figures)
