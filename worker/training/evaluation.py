"""Measures a bundle on labelled images, or a cross-validation by its predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix

from shared.bundle import Manifest
from shared.domain import CLASSES
from shared.errors import InputUnusable
from shared.heatmap import scale_to_saliency
from worker.lesion import lies_off_lesion
from worker.model import Model, Reading
from worker.training.batches import OnProgress, in_batches
from worker.training.calibration import POINTS, read_nested
from worker.training.comparison import compare
from worker.training.conformal import find_all_plausible
from worker.training.dataset import LabelledImages, Source, read_images
from worker.training.figures import MELANOMA, Readings, measure
from worker.training.groups import People, measure_groups
from worker.training.localisation import Heatmaps
from worker.training.malignancy import Diagnosed, measure_malignancy
from worker.training.pictures import draw_pictures, draw_robustness
from worker.training.predictions import read_predictions
from worker.training.report import Report, write_report


@dataclass(frozen=True)
class Subject:
    """A bundle or a cross-validation, and what it said of the images.

    `left_out` counts images of diagnoses that no bundle knows; `diagnosed` holds these, too, where there are any.
    `heatmaps` is None for a cross-validation, which kept none.
    """

    name: str
    images: str
    readings: Readings
    operating_point: str
    left_out: dict[str, int]
    diagnosed: Diagnosed | None = None
    heatmaps: Heatmaps | None = None


def read_with_bundle(model: Model, sources: Sequence[Source], on_progress: OnProgress) -> Subject:
    """Run a bundle over labelled images as a worker would; not every class has to be present.

    Raises:
        InputUnusable: `data_unusable`.
    """
    manifest = model.manifest
    images = read_images(sources, manifest.preprocessing, classes=None, on_image=partial(on_progress, "decoding"))
    known, labels = _known(images)
    batches = in_batches(images.pixels.numpy(), partial(on_progress, "analysing"))
    readings = [model.read(batch) for batch in batches]
    probabilities = np.concatenate([reading.probabilities for reading in readings])
    ids, clusters = np.array(images.ids), np.array(images.groups)
    others = {n: c for n, c in images.count().items() if n not in CLASSES}
    diagnosed = Diagnosed(ids, images.labels.numpy(), images.classes, probabilities[:, MELANOMA], clusters)
    return Subject(
        f"{manifest.name} {manifest.version}",
        ", ".join(folder.name for folder, _ in sources),
        _take_readings(manifest, ids[known], labels, probabilities[known], clusters[known]),
        manifest.default_operating_point,
        others | images.left_out,
        diagnosed if others else None,
        _take_heatmaps(manifest, images.pixels.numpy(), readings, known),
    )


def _take_heatmaps(manifest: Manifest, pixels: np.ndarray, readings: Sequence[Reading], known: np.ndarray) -> Heatmaps:
    """Return the heatmaps of the `known` rows; `pixels` and `readings` are of all."""
    maps = np.concatenate([reading.maps[:, MELANOMA] for reading in readings])
    scale = manifest.heatmap_scales[MELANOMA]
    warned = [lies_off_lesion(pixels[row], scale_to_saliency(maps[row], scale)) for row in known]
    return Heatmaps(maps[known], scale, np.array(warned))


def _take_readings(
    manifest: Manifest, ids: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, clusters: np.ndarray
) -> Readings:
    referred = {point.name: probabilities[:, MELANOMA] >= point.threshold for point in manifest.operating_points}
    by_default = referred[manifest.default_operating_point]
    plausible = manifest.plausible_from and find_all_plausible(probabilities, manifest.plausible_from, by_default)
    return Readings(ids, labels, probabilities, referred, plausible, clusters)


def read_cross_validation(path: Path) -> Subject:
    """Read a cross-validation's predictions, each fold calibrated on the others.

    Raises:
        InputUnusable: `predictions_malformed`; `predictions_one_fold`.
    """
    predictions = read_predictions(path)
    folds = len(set(predictions.folds.tolist()))
    how = f"Cross-validated over {folds} folds, calibrated on the other folds each time"
    return Subject(str(path), how, read_nested(predictions), POINTS[0], {})


def evaluate(subject: Subject, people: People, against: Subject | None) -> Report:
    """Return all figures, those by group where it is known, and the comparison with a second subject.

    Raises:
        InputUnusable: `readings_differ`.
    """
    readings = subject.readings
    answers = readings.probabilities.argmax(axis=1)
    return Report(
        subject=subject.name,
        images=subject.images,
        n=readings.n_images,
        n_by_class={name: len(np.unique(readings.ids[readings.labels == i])) for i, name in enumerate(CLASSES)},
        left_out=subject.left_out,
        operating_point=subject.operating_point,
        figures=measure(readings),
        confusion=confusion_matrix(readings.labels, answers, labels=range(len(CLASSES))).tolist(),
        groups=measure_groups(readings, people) if people else [],
        malignancy=measure_malignancy(subject.diagnosed, people) if subject.diagnosed else [],
        against=against.name if against else None,
        comparison=compare(readings, against.readings) if against else None,
    )


def write_evaluation(folder: Path, subject: Subject, report: Report) -> None:
    """Write `report.json`, `report.md` and its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_pictures(folder, subject.readings, report.figures)
    if report.robustness:
        draw_robustness(folder, report.robustness)
    write_report(folder, report)


def _known(images: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
    """Return which images have a diagnosis that bundles know, and their labels among `CLASSES`."""
    index_of = np.array([CLASSES.index(name) if name in CLASSES else -1 for name in images.classes], int)
    labels = index_of[images.labels.numpy()]
    if not (labels >= 0).any():
        raise InputUnusable("data_unusable", f"No image has one of the diagnoses {', '.join(CLASSES)}.")
    return np.flatnonzero(labels >= 0), labels[labels >= 0]
