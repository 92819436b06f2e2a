"""Splits images for cross-validation: stratified by class, with no lesion, patient or near-duplicate in two folds."""

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from shared.errors import InputUnusable
from worker.training.dataset import LabelledImages

# Of 256 bits. In ISIC-2017's training and validation parts, 18 pairs are that close, and 14 of them, by eye, the same
# photograph (recoloured, or cropped slightly differently); of the next 20 pairs, one is. Joining a pair that is not the
# same does no harm.
NEAR_DUPLICATE_BITS = 45
_HASHED_SIDE = 64
_HASH_SIDE = 16


def assign_folds(images: LabelledImages, n_folds: int, seed: int) -> np.ndarray:
    """Return for each image the fold that holds it out, int64 (n,) from 0.

    Raises:
        InputUnusable: a class has fewer lesions or patients than there are folds.
    """
    groups, labels = join_groups(images), images.labels.numpy()
    for at, name in enumerate(images.classes):
        n_groups = len(np.unique(groups[labels == at]))
        if n_groups < n_folds:
            raise InputUnusable(
                "too_few_for_folds", f"{name} has {n_groups} lesions or patients; {n_folds} folds need one each."
            )
    folds = np.zeros(len(images), np.int64)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        folds[held_out] = fold
    return folds


def join_groups(images: LabelledImages) -> np.ndarray:
    """Return a number per image, int (n,): the same for one lesion or patient, and for near-duplicates."""
    _, given = np.unique(images.groups, return_inverse=True)
    same = near_duplicates(perceptual_hashes(images.pixels.numpy()), NEAR_DUPLICATE_BITS)
    pairs = given[same]
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(given.max() + 1,) * 2)
    _, joined = connected_components(links, directed=False)
    return joined[given]


def perceptual_hashes(pixels: np.ndarray) -> np.ndarray:
    """Return uint64 (n, 4): the signs of an image's 16 × 16 lowest DCT frequencies (pHash, with more than usual).

    Lesions lie in the middle and differ in detail: by the usual 8 × 8 frequencies, they all look alike. Size,
    compression, brightness and contrast hardly change the signs.
    """
    hashes = np.zeros((len(pixels), _HASH_SIDE**2 // 64), np.uint64)
    for at, image in enumerate(pixels):
        grey = Image.fromarray(image).convert("L").resize((_HASHED_SIDE, _HASHED_SIDE), Image.Resampling.BOX)
        waves = dctn(np.asarray(grey, float), norm="ortho")[:_HASH_SIDE, :_HASH_SIDE]
        waves[0, 0] = 0  # brightness
        hashes[at] = np.packbits(waves > 0).view(np.uint64)
    return hashes


def near_duplicates(hashes: np.ndarray, max_bits: int) -> np.ndarray:
    """Return the pairs i < j, int (m, 2), whose hashes differ in at most `max_bits` bits."""
    pairs = [np.empty((0, 2), int)]
    for at, value in enumerate(hashes):
        distances = np.bitwise_count(hashes[at + 1 :] ^ value).sum(axis=1)
        others = at + 1 + np.flatnonzero(distances <= max_bits)
        pairs.append(np.stack([np.full(len(others), at), others], axis=1))
    return np.concatenate(pairs)
