"""What a network said of labelled images, kept as a CSV file: calibration, figures and distillation start from it."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.domain import CLASSES
from shared.errors import ConfigurationInvalid

COLUMNS = ("image_id", "label", "fold", *(f"logit_{name}" for name in CLASSES))
_INDEX = {name: index for index, name in enumerate(CLASSES)}


@dataclass(frozen=True)
class Predictions:
    """Raw logits beside the truth, one row per image and network.

    `labels` int64 (n,), indices into `CLASSES`; `logits` float64 (n, len(CLASSES)), before any temperature; `folds`
    int64 (n,), the part of a cross-validation that was kept aside when the row's network was trained.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    logits: np.ndarray
    folds: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write the CSV file; every logit is read back as the same float64."""
    rows = zip(predictions.ids, predictions.labels, predictions.folds, predictions.logits, strict=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((i, CLASSES[label], fold, *map(repr, logits.tolist())) for i, label, fold, logits in rows)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        ConfigurationInvalid: a column is missing, a row cannot be used, or there is none; the sentence names the line.
    """
    ids, labels, folds, logits = [], [], [], []
    with path.open(newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                ids.append(row["image_id"])
                labels.append(_INDEX[row["label"]])
                folds.append(int(row["fold"]))
                logits.append([_finite(row[column]) for column in COLUMNS[3:]])
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigurationInvalid(
                    "predictions_malformed",
                    f"{path.name} line {line}: needs {', '.join(COLUMNS)}; trouble with {error}.",
                ) from error
    if not ids:
        raise ConfigurationInvalid("predictions_malformed", f"{path.name} has no row under {', '.join(COLUMNS)}.")
    return Predictions(tuple(ids), np.array(labels), np.array(logits), np.array(folds))


def _finite(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value
