"""How well the melanoma probability tells malignant lesions from others, including diagnoses that no bundle knows."""

from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel

from shared.bundle import Figure
from worker.training.figures import Ranking, intervals
from worker.training.groups import LEAST, People, divide

MALIGNANT = ("melanoma", "basal_cell_carcinoma", "squamous_cell_carcinoma")


@dataclass(frozen=True)
class Diagnosed:
    """Images of every diagnosis that their CSV files name, and the melanoma probability that each was given.

    A network that knows three diagnoses takes what is neither nevus nor keratosis for melanoma, and that probability
    decides on referral. `labels` int64 (n,), indices into `diagnoses`; `scores` float64 (n,); `clusters` as in
    `Readings`.
    """

    ids: np.ndarray
    labels: np.ndarray
    diagnoses: tuple[str, ...]
    scores: np.ndarray
    clusters: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def malignant(self) -> np.ndarray:
        return np.isin(np.array(self.diagnoses)[self.labels], MALIGNANT)

    def take(self, rows: np.ndarray) -> "Diagnosed":
        """Return the rows of a mask."""
        clusters = None if self.clusters is None else self.clusters[rows]
        return Diagnosed(self.ids[rows], self.labels[rows], self.diagnoses, self.scores[rows], clusters)


class MalignantAuc(BaseModel):
    """Of a group, or of all: the AUC of malignant against other, if there are enough of both."""

    group: str
    n: int
    n_malignant: int
    auc: Figure | None


def measure_malignancy(diagnosed: Diagnosed, people: People) -> list[MalignantAuc]:
    """Return the figure of all images, then of each group."""
    groups = divide(diagnosed.ids, people) if people else ()
    return [_measure("all", diagnosed)] + [_measure(f"{by}: {name}", diagnosed.take(rows)) for by, name, rows in groups]


def _measure(group: str, diagnosed: Diagnosed) -> MalignantAuc:
    malignant, n = diagnosed.malignant, len(diagnosed)
    n_malignant = int(malignant.sum())
    auc = None
    if min(n_malignant, n - n_malignant) >= LEAST:
        two_kinds = replace(diagnosed, labels=malignant.astype(int))
        value, low, high = intervals(two_kinds, {"auc": Ranking(diagnosed.scores, malignant).auc})["auc"]
        auc = Figure(value=value, low=low, high=high, n=n)
    return MalignantAuc(group=group, n=n, n_malignant=n_malignant, auc=auc)
