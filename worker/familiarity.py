"""Out-of-distribution detection: how far a photograph's features lie from those of the network's training images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from shared.bundle import FEATURES_NAME, Manifest
from shared.errors import ModelUnusable


@dataclass(frozen=True)
class Familiarity:
    """A normal distribution of `activation_shares` in R^K, with one variance along all but d directions.

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

    def to_bytes(self) -> bytes:
        """Return the content of `features.safetensors`."""
        return save(vars(self))


def activation_shares(stages: Sequence[Tensor]) -> Tensor:
    """Return the square root of each map's share of its stage's activation, (N, K) for K maps; rows have length 1.

    The Euclidean distance between such rows is Hellinger's. By the maps' plain averages, half of the pictures of plain
    skin lie among the lesions, since plain skin activates the network little; by their shares, none of 43 does.

    Args:
        stages: the feature maps of each stage, (N, maps, h, w), ≥ 0; all stages weigh the same.
    """
    averages = [maps.mean(dim=(2, 3)) for maps in stages]
    shares = [each / each.sum(dim=1, keepdim=True).clamp_min(1e-12) for each in averages]
    return torch.cat(shares, dim=1).div(len(stages)).sqrt()


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
        return Familiarity(**load(data))
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ModelUnusable(
            "bundle_damaged", f"{folder / FEATURES_NAME} does not match the manifest. Copy the bundle again."
        ) from error
