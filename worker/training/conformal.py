"""Prediction sets: which diagnoses cannot be ruled out, by class-conditional conformal prediction."""

import numpy as np

from shared.domain import CLASSES, PLAUSIBLE_SHARE, Decision, find_plausible


def choose_plausible_from(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, ...]:
    """Choose, on probabilities (n, classes) of held-out images, the probability from which each diagnosis is plausible.

    A new lesion of a diagnosis is equally likely to take any rank among the n known ones (Sadinle, Lei and Wasserman
    2019, JASA 114:223; Angelopoulos and Bates 2021, arXiv 2107.07511). So if the k-th lowest of their probabilities for
    it is the threshold, k = ⌊(1 - share) (n + 1)⌋, a new one reaches it with a probability of at least
    `PLAUSIBLE_SHARE`, however poor the network is, as long as it is the same one. A bundle's network is not: those of
    a cross-validation ranked the known lesions. One threshold per diagnosis, so that the many nevi do not make up
    for missed melanomas. With too few lesions (k = 0), a diagnosis is always plausible.
    """
    return tuple(_lowest_kept(probabilities[labels == i, i]) for i in range(len(CLASSES)))


def _lowest_kept(probabilities: np.ndarray) -> float:
    """Return a threshold midway below the k-th lowest, so that a rounding error cannot change the answer."""
    in_order = np.concatenate([[0.0], np.sort(probabilities)])
    k = int((1 - PLAUSIBLE_SHARE) * len(in_order) + 1e-9)
    return float(in_order[max(k - 1, 0) : k + 1].mean())


def find_all_plausible(
    probabilities: np.ndarray, plausible_from: tuple[float, ...], referred: np.ndarray
) -> np.ndarray:
    """Return bool (n, classes): which diagnoses a result with these probabilities and decisions calls plausible."""
    decisions = [Decision.REFER if refer else Decision.ROUTINE for refer in referred]
    named = (find_plausible(row, plausible_from, at) for row, at in zip(probabilities, decisions, strict=True))
    return np.array([[name in names for name in CLASSES] for names in named])
