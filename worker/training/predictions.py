"""What a network said of labelled images, kept as a CSV file: calibration, figures and distillation start from it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from shared.domain import CLASSES
from shared.errors import InputUnusable

PREDICTIONS_NAME = "predictions.csv"
COLUMNS = ("image_id", "label", "fold", *(f"logit_{name}" for name in CLASSES))
GROUP = "group"
_INDEX = {name: index for index, name in enumerate(CLASSES)}


@dataclass(frozen=True)
class Predictions:
    """Raw logits beside the truth, one row per image and network.

    `labels` int64 (n,), indices into `CLASSES`; `logits` float64 (n, len(CLASSES)), before any temperature; `folds`
    int64 (n,), the fold of a cross-validation that was held out when the row's network was trained. `groups` names the
    lesion or patient that a row shows; None: each image shows another one.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    logits: np.ndarray
    folds: np.ndarray
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write the CSV file; every logit is read back as the same float64.

    Groups, if named, are a last column of numbers: the file may go into a bundle, and the names may be patients'.
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(predictions.groups or ()), start=1)}
    groups = [(numbers[group],) for group in predictions.groups] if predictions.groups else [()] * len(predictions)
    rows = zip(predictions.ids, predictions.labels, predictions.folds, predictions.logits, groups, strict=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, GROUP) if predictions.groups else COLUMNS)
        writer.writerows((i, CLASSES[at], fold, *map(repr, logits.tolist()), *of) for i, at, fold, logits, of in rows)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        InputUnusable: a column is missing, a row cannot be used, or there is none; the message names the line.
    """
    ids, labels, folds, logits = [], [], [], []
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputUnusable("predictions_malformed", f"{path.name} is not a CSV file: {error}.") from error
    for line, row in enumerate(rows, start=2):
        try:
            ids.append(row["image_id"])
            labels.append(_INDEX[row["label"]])
            folds.append(int(row["fold"]))
            logits.append([_finite(row[column]) for column in COLUMNS[3:]])
        except (KeyError, TypeError, ValueError) as error:
            raise InputUnusable(
                "predictions_malformed",
                f"{path.name} line {line} cannot be used ({error}); a row needs {', '.join(COLUMNS)}.",
            ) from error
    if not ids:
        raise InputUnusable("predictions_malformed", f"{path.name} has no rows under {', '.join(COLUMNS)}.")
    groups = tuple(row[GROUP] or row["image_id"] for row in rows) if GROUP in rows[0] else None
    return Predictions(tuple(ids), np.array(labels), np.array(logits), np.array(folds), groups)


def mean_probabilities(parts: Sequence[Predictions], ids: Sequence[str]) -> np.ndarray:
    """Return float64 (len(ids), classes): each image's probabilities, averaged over all its rows.

    Raises:
        InputUnusable: `predictions_incomplete`, an image has no row.
    """
    rows: dict[str, list[np.ndarray]] = {}
    for part in parts:
        for image_id, probabilities in zip(part.ids, softmax(part.logits, axis=1), strict=True):
            rows.setdefault(image_id, []).append(probabilities)
    missing = [image_id for image_id in ids if image_id not in rows]
    if missing:
        raise InputUnusable(
            "predictions_incomplete", f"{len(missing)} images have no prediction, such as {missing[0]}."
        )
    return np.stack([np.mean(rows[image_id], axis=0) for image_id in ids])


def _finite(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value
