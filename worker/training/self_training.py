"""Self-training: a teacher labels unlabelled images; a student learns those of which the teacher was most confident."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import softmax

from shared.errors import InputUnusable
from worker.training.dataset import Images, LabelledImages, UnlabelledImages
from worker.training.folds import NEAR_DUPLICATE_BITS, near_duplicates, perceptual_hashes

KEPT_SHARE = 0.5
"""Kept of the images that the teacher assigns to a class: those of which it is most confident. By class, and not by
one threshold, which nearly all that look like the commonest class would pass and none that look like the rarest (Zou
et al. 2018, arXiv 1810.07911). Not tuned."""

Predict = Callable[[Images], np.ndarray]
"""Returns logits, float (n, classes), of images of `TRAINING_SIDE`."""

Learn = Callable[[LabelledImages, Path], Predict]
"""Learns from labelled images, keeping in a folder what it needs to resume."""


def self_train(learn: Learn, train: LabelledImages, unlabelled: UnlabelledImages, folder: Path) -> Predict:
    """Learn from `train` (in `folder/teacher`), then anew from it together with images that the teacher labelled.

    Pseudo-labels (Lee 2013), with the student's images augmented as always (Xie et al. 2020, arXiv 1911.04252).
    """
    teacher = learn(train, folder / "teacher")
    return learn(add_pseudo_labelled(train, unlabelled, teacher(unlabelled)), folder)


def add_pseudo_labelled(train: LabelledImages, unlabelled: UnlabelledImages, logits: np.ndarray) -> LabelledImages:
    """Return `train` followed by the unlabelled images for which a teacher's logits (n, classes) are most confident."""
    guesses, confidence = logits.argmax(axis=1), softmax(logits, axis=1).max(axis=1)
    kept = [np.flatnonzero(guesses == name) for name in range(len(train.classes))]
    kept = np.concatenate([rows[np.argsort(-confidence[rows])][: round(KEPT_SHARE * len(rows))] for rows in kept])
    chosen, labels = unlabelled.subset(kept), torch.from_numpy(guesses[kept])
    return replace(
        train,
        ids=train.ids + chosen.ids,
        pixels=torch.cat([train.pixels, chosen.pixels]),
        labels=torch.cat([train.labels, labels]),
        groups=train.groups + chosen.ids,
        digest=hashlib.sha256(f"{train.digest}{chosen.digest}{labels.tolist()}".encode()).hexdigest(),
    )


def without_known(unlabelled: UnlabelledImages, images: LabelledImages) -> UnlabelledImages:
    """Return the unlabelled images that are not among the labelled ones, by name or as near-duplicates.

    Otherwise a fold's network could learn from images that the fold holds out, though without their labels.

    Raises:
        InputUnusable: `data_unusable`, none is left.
    """
    hashes = perceptual_hashes(torch.cat([images.pixels, unlabelled.pixels]).numpy())
    pairs = near_duplicates(hashes, NEAR_DUPLICATE_BITS)
    alike = pairs[(pairs[:, 0] < len(images)) & (pairs[:, 1] >= len(images)), 1] - len(images)
    named = np.flatnonzero(np.isin(unlabelled.ids, images.ids))
    left = np.setdiff1d(np.arange(len(unlabelled)), np.union1d(alike, named))
    if not len(left):
        raise InputUnusable("data_unusable", "Every unlabelled image is also among the labelled ones.")
    return unlabelled.subset(left)
