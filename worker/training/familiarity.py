"""Fits out-of-distribution detection to the training images' features."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.decomposition import PCA

from shared.errors import InputUnusable
from worker.familiarity import Distribution, Familiarity

_DIRECTIONS = 64
_FOLDS = 5
"""Also the fewest lesions: each fold measures one or more. Of three images, the other two would leave no noise."""

_FAMILIAR = 0.99
"""Share of the training images that a limit lets pass, each compared with statistics of the other folds."""


def learn_familiarity(shares: Sequence[np.ndarray], groups: Sequence[str] | None = None) -> tuple[Familiarity, float]:
    """Return the statistics of training images' shares, (n, K) of each stage, and the threshold on their distances.

    `groups` (n) names the lesion or patient of each image, which is compared with those of others alone; None: each
    image shows another one.

    Raises:
        InputUnusable: `data_unusable`: there are too few groups.
    """
    groups = range(len(shares[0])) if groups is None else groups
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    if len(numbers) < _FOLDS:
        raise InputUnusable(
            "data_unusable",
            f"Learning what training images are like takes images of {_FOLDS} lesions or more; there are"
            f" {len(numbers)}.",
        )
    folds = np.array([numbers[group] for group in groups]) % _FOLDS
    distances = [_distances_from_others(each, folds) for each in shares]
    usual = [np.quantile(each, _FAMILIAR) for each in distances]
    strangest = np.max([each / limit for each, limit in zip(distances, usual, strict=True)], axis=0)
    known = (_scaled(_fit(each), limit) for each, limit in zip(shares, usual, strict=True))
    return Familiarity(tuple(known)), float(np.quantile(strangest, _FAMILIAR))


def _distances_from_others(shares: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return each image's distance from the distribution of the other folds' images."""
    distances = np.empty(len(shares))
    for fold in range(_FOLDS):
        distances[folds == fold] = _fit(shares[folds != fold]).distances(shares[folds == fold])
    return distances


def _scaled(stage: Distribution, unit: float) -> Distribution:
    """Return the distribution from which distances are measured in this unit."""
    variances, noise = (np.float32(part * unit**2) for part in (stage.variances, stage.noise))
    return replace(stage, variances=variances, noise=noise)


def _fit(shares: np.ndarray) -> Distribution:
    """Fit probabilistic PCA: the variance that the first directions leave is spread over all others.

    Scikit-learn's own `noise_variance_` spreads it over as many as there are images, if these are fewer.
    """
    n, width = shares.shape
    pca = PCA(min(_DIRECTIONS, min(n, width) // 2), svd_solver="covariance_eigh").fit(shares.astype(np.float64))
    left = shares.var(axis=0, ddof=1, dtype=np.float64).sum() - pca.explained_variance_.sum()
    noise = left / (width - pca.n_components_)
    parts = (pca.mean_, pca.components_.T, pca.explained_variance_, np.array([noise]))
    return Distribution(*(np.ascontiguousarray(part, np.float32) for part in parts))
