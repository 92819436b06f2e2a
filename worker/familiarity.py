"""Out-of-distribution detection: how far a photograph's features lie from those of the network's training images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import count, takewhile
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from shared.bundle import FEATURES_NAME, Manifest
from shared.errors import ModelUnusable


@dataclass(frozen=True)
class Distribution:
    """A normal distribution of one stage's `activation_shares` in R^K, with one variance along all but d directions.

    `mean` float32 (K,); `directions` float32 (K, d), orthonormal columns; `variances` float32 (d,), along them;
    `noise` float32 (1,), the variance along any other direction (Tipping and Bishop 1999, Probabilistic PCA).
    """

    mean: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    noise: np.ndarray

    def distances(self, shares: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance of shares (N, K) from the mean, (N,), divided by √K: about 1 is usual.

        For out-of-distribution detection: Lee et al. 2018, arXiv 1807.03888.
        """
        centred = shares - self.mean
        along = centred @ self.directions
        across = (centred**2).sum(axis=1) - (along**2).sum(axis=1)
        squares = (along**2 / self.variances).sum(axis=1) + across / self.noise
        return np.sqrt(squares / len(self.mean))


@dataclass(frozen=True)
class Familiarity:
    """The distribution of each stage's shares, scaled so that one in a hundred training images lies further than 1."""

    stages: tuple[Distribution, ...]

    def distances(self, shares: Sequence[np.ndarray]) -> np.ndarray:
        """Return how far photographs lie from the training images in the stage that finds them strangest, (N,).

        The last stage tells plain skin from lesions, the one before it what has nothing to do with skin.

        Args:
            shares: of each stage, (N, K).
        """
        return np.max([stage.distances(each) for stage, each in zip(self.stages, shares, strict=True)], axis=0)

    def fits(self, shares: Sequence[np.ndarray]) -> bool:
        """Tell whether shares have the stages and maps that these statistics describe."""
        return [each.shape[1] for each in shares] == [len(stage.mean) for stage in self.stages]

    def to_bytes(self) -> bytes:
        """Return the content of `features.safetensors`."""
        named = ((f"{i}.{name}", array) for i, stage in enumerate(self.stages) for name, array in vars(stage).items())
        return save(dict(named))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Familiarity":
        """Read what `to_bytes` returned. An older file, whose statistics are of all stages together, has no stages."""
        arrays = load(data)
        names = [field.name for field in fields(Distribution)]
        known = takewhile(lambda i: f"{i}.{names[0]}" in arrays, count())
        return cls(tuple(Distribution(*(arrays[f"{i}.{name}"] for name in names)) for i in known))


def activation_shares(maps: Tensor) -> Tensor:
    """Return the square root of each feature map's share of its stage's activation, (N, K); rows have length 1.

    The Euclidean distance between such rows is Hellinger's. By the maps' plain averages, half of the pictures of plain
    skin lie among the lesions, since plain skin activates the network little; by their shares, none of 43 does.

    Args:
        maps: one stage's feature maps, (N, K, h, w), ≥ 0.
    """
    averages = maps.mean(dim=(2, 3))
    return (averages / averages.sum(dim=1, keepdim=True).clamp_min(1e-12)).sqrt()


def read_familiarity(folder: Path, manifest: Manifest) -> Familiarity | None:
    """Read the statistics of a bundle's training images' features; None if its manifest names none.

    Raises:
        ModelUnusable: `bundle_damaged`: the file is missing, or is not the one that the manifest names.
    """
    if manifest.familiarity is None:
        return None
    try:
        data = (folder / FEATURES_NAME).read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest.familiarity.sha256:
            raise ValueError("another digest")
        return Familiarity.from_bytes(data)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ModelUnusable(
            "bundle_damaged", f"{folder / FEATURES_NAME} does not match the manifest. Copy the bundle again."
        ) from error
