"""Tests whether one network ranks lesions better than another on the same images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import BaseModel
from scipy.stats import norm, rankdata

from shared.bundle import Figure
from shared.domain import CLASSES
from shared.errors import InputUnusable
from worker.training.figures import KERATOSIS, MELANOMA, Ranking, Readings, auc_mean, clusters_of, intervals


class Difference(BaseModel):
    """First AUC minus second, with its 95% interval and two-sided p-value."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float


class Comparison(BaseModel):
    """DeLong's test by class, and the difference in the challenge's mean AUC, by bootstrap."""

    auc: dict[str, Difference]
    auc_mean: Figure | None


def compare(first: Readings, second: Readings) -> Comparison:
    """Compare two networks on the images that both read, class by class. It is enough if one of them names clusters.

    Raises:
        InputUnusable: `readings_differ`: not the same images, or one of them several times.
    """
    second = _in_order_of(first, second)
    if first.clusters is None:
        first = replace(first, clusters=second.clusters)
    clusters = clusters_of(first)
    by_class = {
        name: delong(first.probabilities[:, i], second.probabilities[:, i], first.labels == i, clusters)
        for i, name in enumerate(CLASSES)
        if all(np.unique(clusters[rows]).size > 1 for rows in (first.labels == i, first.labels != i))
    }
    return Comparison(auc=by_class, auc_mean=_difference_of_means(first, second))


def delong(first: np.ndarray, second: np.ndarray, positive: np.ndarray, clusters: np.ndarray) -> Difference:
    """Test two AUCs on the same images: scores (n,) of each network, which are positive, bool (n,), and their clusters.

    DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837) by the ranks of Sun and Xu 2014 (IEEE Signal Processing
    Letters 21:1389): a positive image's placement is the share of negative ones below it, which is its rank among all
    minus its rank among the positive ones, and the AUC is the placements' mean. Its variance is that of sums of
    placements over clusters, such as the images of one patient (Obuchowski 1997, Biometrics 53:567).
    """
    scores = np.stack([first, second])
    ranks = rankdata(scores, axis=1)
    n_positive, n_negative = positive.sum(), (~positive).sum()
    of_positives = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / n_negative
    of_negatives = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / n_positive
    aucs = of_positives.mean(axis=1)
    deviations = [(positive, of_positives - aucs[:, None]), (~positive, of_negatives - aucs[:, None])]
    covariance = _covariance(deviations, clusters)
    difference = float(aucs[0] - aucs[1])
    deviation = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0)))
    half = float(norm.ppf(0.975)) * deviation
    return Difference(
        first=aucs[0],
        second=aucs[1],
        difference=difference,
        low=difference - half,
        high=difference + half,
        p=2 * norm.sf(abs(difference) / deviation) if deviation else float(difference == 0),
    )


def _covariance(deviations: Sequence[tuple[np.ndarray, np.ndarray]], clusters: np.ndarray) -> np.ndarray:
    """Return the covariance of two AUCs (2, 2).

    deviations: of the positive images, then of the others: which rows they are, bool (n,), and how far their placements
        are from each AUC (2, rows).
    """
    names, cluster_of = np.unique(clusters, return_inverse=True)
    sums, covariance = [], np.zeros((2, 2))
    for rows, values in deviations:
        at = cluster_of[rows]
        sums.append(np.stack([np.bincount(at, of_network, len(names)) for of_network in values]) / len(at))
        covariance += sums[-1] @ sums[-1].T * _unbiased(np.unique(at).size)
    across = sums[0] @ sums[1].T * _unbiased(len(names))
    return covariance + across + across.T


def _unbiased(n: int) -> float:
    return n / (n - 1)


def _difference_of_means(first: Readings, second: Readings) -> Figure | None:
    if not np.isin([MELANOMA, KERATOSIS], first.labels).all():
        return None
    pairs = [
        tuple(Ranking(readings.probabilities[:, i], readings.labels == i) for i in (MELANOMA, KERATOSIS))
        for readings in (first, second)
    ]
    spans = intervals(
        first, {"difference": lambda weights: auc_mean(*pairs[0], weights) - auc_mean(*pairs[1], weights)}
    )
    value, low, high = spans["difference"]
    return Figure(value=value, low=low, high=high, n=len(first))


def _in_order_of(first: Readings, second: Readings) -> Readings:
    """Return the second network's rows in the first one's order."""
    row_of = {image_id: row for row, image_id in enumerate(second.ids)}
    if len(set(first.ids)) < len(first) or len(row_of) < len(second):
        raise InputUnusable(
            "readings_differ", "An image was read several times: only networks that read each one once can be compared."
        )
    if set(first.ids) != row_of.keys():
        raise InputUnusable("readings_differ", "The two networks did not read the same images.")
    ordered = second.take(np.array([row_of[image_id] for image_id in first.ids]))
    if (ordered.labels != first.labels).any():
        raise InputUnusable("readings_differ", "The two networks' images do not have the same labels.")
    return ordered
