"""Figures of probabilities against the truth, with 95% bootstrap intervals; for shares of few images, exact ones.

A resample is a weight per row: how often its cluster was drawn. A cluster is an image or, where it is known, all images
of one lesion or patient (cluster bootstrap: Field and Welsh 2007, J. R. Stat. Soc. B 69:369). A figure is a function of
weights (resamples, n), so that a thousand resamples are a few matrix products; the figure itself has weights of 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from scipy.special import softmax
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from shared.bundle import Figure
from shared.domain import CLASSES
from worker.training.words import in_words

_CHALLENGE = ("melanoma", "seborrheic_keratosis")
MELANOMA, KERATOSIS = map(CLASSES.index, _CHALLENGE)
CALIBRATION_BINS = 10
_SENSITIVITY = 0.95
_RESAMPLES = 1000
_FEW = 200
"""With fewer clusters, a share has an exact interval: for 59 hits among 62, the bootstrap's would cover 88%."""

_WEIGHTS_AT_ONCE = 500_000  # 4 MB: more is slower, because it leaves the processor's cache

Measure = Callable[[np.ndarray], np.ndarray]
"""Weights (resamples, n) → the figure in each resample (resamples,)."""


@dataclass(frozen=True)
class Readings:
    """What was said of labelled images, and the truth.

    `ids` may hold an image several times, if several networks read it. `labels` int64 (n,), indices into `CLASSES`;
    `probabilities` float64 (n, len(CLASSES)), rows sum to one; `referred` bool (n,), by operating point. `plausible`
    bool (n, len(CLASSES)), at the default operating point, is None where the bundle cannot tell. `clusters`
    str (n,) names the lesion or patient that a row shows; None: each image shows another one.
    """

    ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    referred: dict[str, np.ndarray]
    plausible: np.ndarray | None = None
    clusters: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def melanoma(self) -> np.ndarray:
        return self.labels == MELANOMA

    @property
    def n_images(self) -> int:
        return len(np.unique(self.ids))

    def take(self, rows: np.ndarray) -> "Readings":
        """Return the rows of a mask, or those of these numbers in their order."""
        referred = {point: flags[rows] for point, flags in self.referred.items()}
        plausible = None if self.plausible is None else self.plausible[rows]
        clusters = None if self.clusters is None else self.clusters[rows]
        return Readings(self.ids[rows], self.labels[rows], self.probabilities[rows], referred, plausible, clusters)


def measure(readings: Readings) -> dict[str, Figure]:
    """Return every figure that these images allow, by name: one class alone has no AUC."""
    return find_figures(readings, _scores(readings), _rates(readings))


def challenge_figures(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str] = CLASSES
) -> dict[str, float | None]:
    """Return the AUCs that ISIC-2017 ranked by, and the accuracy over all classes.

    An AUC is None where all images, or none, are of its class, and the mean where one of the two is.
    """
    probabilities = softmax(logits, axis=1)
    found = {f"AUC {in_words(name)}": _auc_of(name, probabilities, labels, classes) for name in _CHALLENGE}
    aucs = [*found.values()]
    found["AUC mean"] = None if None in aucs else float(np.mean(aucs))
    found["accuracy"] = float((probabilities.argmax(axis=1) == labels).mean())
    return found


def _auc_of(name: str, probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> float | None:
    if name not in classes or len(np.unique(labels == classes.index(name))) < 2:
        return None
    at = classes.index(name)
    return float(roc_auc_score(labels == at, probabilities[:, at]))


def find_figures(
    readings: Readings, scores: dict[str, Measure], rates: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, Figure]:
    """Return each figure with its interval. A rate is given by which rows are hits and among which they are counted."""
    clusters = clusters_of(readings)
    n_of = {name: np.unique(readings.ids[among]).size for name, (_, among) in rates.items()}
    n_clusters = {name: np.unique(clusters[among]).size for name, (_, among) in rates.items()}
    value_of = {name: float(hits[among].mean()) for name, (hits, among) in rates.items()}
    exact = {
        name: (value, *exact_interval(round(value * n_clusters[name]), n_clusters[name]))
        for name, value in value_of.items()
        if n_clusters[name] < _FEW or value in (0, 1)  # 0 and 1 have no spread to resample
    }
    resampled = scores | {name: _rate(*sets) for name, sets in rates.items() if name not in exact}
    spans = intervals(readings, resampled) | exact
    return {
        name: Figure(value=value, low=low, high=high, n=n_of.get(name, readings.n_images))
        for name in (*scores, *rates)
        for value, low, high in [spans[name]]
    }


class Labelled(Protocol):
    """Rows of labelled images, from which resamples are drawn."""

    ids: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray | None

    def __len__(self) -> int: ...


def clusters_of(readings: Labelled) -> np.ndarray:
    """Return what each row is a repeated observation of, str (n,): its lesion or patient if known, or its image."""
    return readings.ids if readings.clusters is None else readings.clusters


def intervals(readings: Labelled, measures: dict[str, Measure]) -> dict[str, tuple[float, float, float]]:
    """Return each figure with the ends of its 95% percentile interval (Efron and Tibshirani 1993)."""
    resampled = {name: [] for name in measures}
    for weights in _resamples(readings):
        for name, of in measures.items():
            resampled[name].append(of(weights))
    as_it_is = np.ones((1, len(readings)))
    return {
        name: (float(of(as_it_is)[0]), *map(float, np.quantile(np.concatenate(resampled[name]), (0.025, 0.975))))
        for name, of in measures.items()
    }


def _resamples(readings: Labelled) -> Iterator[np.ndarray]:
    """Draw clusters with replacement, as many as there are of each first class, and skip what lacks a class."""
    generator = np.random.default_rng(0)
    clusters, cluster_of_row = np.unique(clusters_of(readings), return_inverse=True)
    labels = np.full(len(clusters), np.iinfo(readings.labels.dtype).max)
    np.minimum.at(labels, cluster_of_row, readings.labels)
    is_class = readings.labels[:, None] == np.unique(readings.labels)
    at_once = max(1, _WEIGHTS_AT_ONCE // len(readings))
    for begin in range(0, _RESAMPLES, at_once):
        drawn = np.empty((min(at_once, _RESAMPLES - begin), len(labels)))
        for label in np.unique(labels):
            alike = np.flatnonzero(labels == label)
            drawn[:, alike] = generator.multinomial(len(alike), np.full(len(alike), 1 / len(alike)), len(drawn))
        weights = drawn[:, cluster_of_row]
        yield weights[(weights @ is_class > 0).all(axis=1)]


def exact_interval(hits: int, n: int) -> tuple[float, float]:
    """Return the ends of the exact 95% interval of a share (Clopper and Pearson 1934, Biometrika 26:404)."""
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


def _rates(readings: Readings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return by name which rows are hits, and among which rows they are counted."""
    melanoma, answer, everyone = readings.melanoma, readings.probabilities.argmax(axis=1), np.full(len(readings), True)
    rates = {
        "accuracy": (answer == readings.labels, everyone),
        "binary_accuracy": ((answer == MELANOMA) == melanoma, everyone),
    }
    for point, referred in readings.referred.items():
        rates[f"binary_accuracy_{point}"] = (referred == melanoma, everyone)
        rates[f"sensitivity_{point}"] = (referred, melanoma)
        rates[f"specificity_{point}"] = (~referred, ~melanoma)
    if readings.plausible is not None:
        rates |= _rates_of_plausible(readings, everyone)
    return {name: sets for name, sets in rates.items() if sets[1].any()}


def _rates_of_plausible(readings: Readings, everyone: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return how often the lesion's own diagnosis is among the plausible ones, and how often there are several."""
    covered = readings.plausible[np.arange(len(readings)), readings.labels]
    uncertain = readings.plausible.sum(axis=1) > 1
    return {
        "coverage": (covered, everyone),
        **{f"coverage_{name}": (covered, readings.labels == i) for i, name in enumerate(CLASSES)},
        "coverage_where_certain": (covered, ~uncertain),
        "uncertain": (uncertain, everyone),
    }


def _scores(readings: Readings) -> dict[str, Measure]:
    """Return the figures that are more than a share of the images."""
    labels, probabilities = readings.labels, readings.probabilities
    rankings = {
        name: Ranking(probabilities[:, index], labels == index)
        for index, name in enumerate(CLASSES)
        if 0 < (labels == index).sum() < len(labels)
    }
    scores: dict[str, Measure] = {f"auc_{name}": ranking.auc for name, ranking in rankings.items()}
    if {"melanoma", "seborrheic_keratosis"} <= rankings.keys():
        scores["auc_mean"] = partial(auc_mean, rankings["melanoma"], rankings["seborrheic_keratosis"])
    if melanoma := rankings.get("melanoma"):
        scores["average_precision_melanoma"] = melanoma.average_precision
        scores["specificity_at_95_sensitivity"] = partial(melanoma.specificity_at, _SENSITIVITY)
    recalls = [_rate(probabilities.argmax(axis=1) == i, labels == i) for i in np.unique(labels)]
    scores["balanced_accuracy"] = lambda weights: np.mean([recall(weights) for recall in recalls], axis=0)
    scores["expected_calibration_error"] = partial(
        calibration_error, probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    )
    truth = np.eye(len(CLASSES))[labels]
    scores["brier_score"] = partial(mean, ((probabilities - truth) ** 2).sum(axis=1))
    if readings.plausible is not None:
        scores["plausible_diagnoses"] = partial(mean, readings.plausible.sum(axis=1))
    return scores


class Ranking:
    """Rows in descending order of a score; equal scores are one step. `scores` float (n,), `positive` bool (n,)."""

    def __init__(self, scores: np.ndarray, positive: np.ndarray):
        self._order = np.argsort(-scores, kind="stable")
        self._positive = positive[self._order]
        self._steps = np.flatnonzero(np.diff(scores[self._order], prepend=np.inf))

    def auc(self, weights: np.ndarray) -> np.ndarray:
        """Return the chance that a positive one ranks above a negative one; a tie counts half (Mann and Whitney)."""
        positives, negatives = self._count(weights)
        above = positives.cumsum(axis=1) - positives / 2
        return (negatives * above).sum(axis=1) / (positives.sum(axis=1) * negatives.sum(axis=1))

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return the mean precision at each positive one."""
        positives, negatives = self._count(weights)
        found, passed = positives.cumsum(axis=1), (positives + negatives).cumsum(axis=1)
        return (positives * found / np.maximum(passed, 1)).sum(axis=1) / found[:, -1]

    def specificity_at(self, sensitivity: float, weights: np.ndarray) -> np.ndarray:
        """Return the specificity at the highest threshold that finds this share of the positive ones."""
        positives, negatives = self._count(weights)
        found = positives.cumsum(axis=1)
        at = np.argmax(found >= sensitivity * found[:, -1:] - 1e-9, axis=1)
        flagged = np.take_along_axis(negatives.cumsum(axis=1), at[:, None], axis=1)[:, 0]
        return 1 - flagged / negatives.sum(axis=1)

    def _count(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        drawn = weights[:, self._order]
        both = np.add.reduceat(drawn, self._steps, axis=1)
        positives = np.add.reduceat(drawn * self._positive, self._steps, axis=1)
        return positives, both - positives


def auc_mean(melanoma: Ranking, keratosis: Ranking, weights: np.ndarray) -> np.ndarray:
    """Return the mean of the two AUCs by which ISIC-2017 Part 3 ranked its entries."""
    return (melanoma.auc(weights) + keratosis.auc(weights)) / 2


def calibration_error(confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean distance of confidence from accuracy over ten equal bins (Guo et al. 2017, arXiv 1706.04599)."""
    gaps = (correct - confidence)[:, None] * np.eye(CALIBRATION_BINS)[calibration_bins(confidence)]
    return np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)


def calibration_bins(confidence: np.ndarray) -> np.ndarray:
    """Return each row's bin among ten of equal width; the last one holds 1, too."""
    return np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)


def _rate(hits: np.ndarray, among: np.ndarray) -> Measure:
    return lambda weights: (weights @ (hits & among)) / (weights @ among)


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of values (n,) in each resample."""
    return weights @ values / weights.sum(axis=1)
