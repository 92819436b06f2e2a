"""A bundle's statistics of its training images' features, and how it judges other images by them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from shared.bundle import FEATURES_NAME, FamiliarityCheck
from shared.errors import ModelUnusable
from tests.worker.networks import tiny_manifest
from worker.familiarity import Distribution, Familiarity, activation_shares, read_familiarity
from worker.training.familiarity import learn_familiarity


def shares_of(n: int, direction: int = 0, seed: int = 0) -> np.ndarray:
    """Return shares that vary much along one of ten directions, and a little along all."""
    generator = np.random.default_rng(seed)
    averages = generator.uniform(0.9, 1.1, (n, 10))
    averages[:, direction] += generator.uniform(0, 2, n)
    return np.sqrt(averages / averages.sum(axis=1, keepdims=True)).astype(np.float32)


def manifest_with(data: bytes, threshold: float = 1.0):
    check = FamiliarityCheck(sha256=hashlib.sha256(data).hexdigest(), threshold=threshold, learnt_on="nothing")
    return tiny_manifest(familiarity=check)


def write(folder: Path, familiarity: Familiarity):
    (folder / FEATURES_NAME).write_bytes(familiarity.to_bytes())
    return manifest_with(familiarity.to_bytes())


def test_distances_are_mahalanobis_distances_for_the_covariance_of_the_parts():
    generator = np.random.default_rng(1)
    directions = np.linalg.qr(generator.normal(size=(6, 2)))[0]
    mean, variances, noise = np.full(6, 0.4), np.array([3.0, 2.0]), np.array([0.5])
    distribution = Distribution(mean, directions, variances, noise)
    shares = generator.uniform(0, 1, (4, 6))
    covariance = directions * (variances - noise) @ directions.T + noise * np.eye(6)
    centred = shares - mean
    expected = np.sqrt(np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred) / 6)
    np.testing.assert_allclose(distribution.distances(shares), expected)


def test_what_varies_like_the_training_images_is_familiar_and_what_varies_otherwise_is_not():
    familiarity, threshold = learn_familiarity([shares_of(200)])
    assert (familiarity.distances([shares_of(200, seed=1)]) > threshold).mean() < 0.05
    assert (familiarity.distances([shares_of(200, direction=4, seed=1)]) > threshold).mean() > 0.9


@pytest.mark.parametrize("strange", [0, 1])
def test_what_a_single_stage_finds_strange_is_not_familiar_however_usual_the_others_find_it(strange):
    familiarity, threshold = learn_familiarity([shares_of(200), shares_of(200, direction=1)])
    usual = [shares_of(200, seed=1), shares_of(200, direction=1, seed=1)]
    assert (familiarity.distances(usual) > threshold).mean() < 0.05
    usual[strange] = shares_of(200, direction=4, seed=1)
    assert (familiarity.distances(usual) > threshold).mean() > 0.9


def test_shares_are_the_same_however_strongly_a_photograph_activates_the_maps():
    maps = torch.rand(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    shares = activation_shares(maps)
    assert shares.shape == (3, 4)
    torch.testing.assert_close(shares.square().sum(dim=1), torch.ones(3))
    torch.testing.assert_close(activation_shares(maps * 7), shares)


def test_a_photograph_that_activates_nothing_has_shares_of_zero():
    assert activation_shares(torch.zeros(1, 4, 2, 2)).tolist() == [[0.0] * 4]


def test_the_file_is_read_back_as_it_was_written(tmp_path):
    familiarity, _ = learn_familiarity([shares_of(50), shares_of(50, direction=1)])
    read = read_familiarity(tmp_path, write(tmp_path, familiarity))
    for again, written in zip(read.stages, familiarity.stages, strict=True):
        for name, value in vars(written).items():
            np.testing.assert_array_equal(getattr(again, name), value)


def test_a_file_of_statistics_of_all_stages_together_describes_no_stage(tmp_path):
    arrays = {"mean": np.zeros(10, np.float32), "noise": np.ones(1, np.float32)}
    (tmp_path / FEATURES_NAME).write_bytes(save(arrays))
    assert not read_familiarity(tmp_path, manifest_with(save(arrays))).fits([shares_of(1)])


def test_a_bundle_whose_manifest_names_no_statistics_has_none(tmp_path):
    assert read_familiarity(tmp_path, tiny_manifest()) is None


@pytest.mark.parametrize("data", [None, b"another", b""])
def test_a_file_that_is_missing_or_different_is_refused(tmp_path, data):
    manifest = write(tmp_path, learn_familiarity([shares_of(50)])[0])
    (tmp_path / FEATURES_NAME).unlink()
    if data is not None:
        (tmp_path / FEATURES_NAME).write_bytes(data)
    with pytest.raises(ModelUnusable, match=FEATURES_NAME) as refusal:
        read_familiarity(tmp_path, manifest)
    assert refusal.value.code == "bundle_damaged"


def test_a_file_that_is_not_safetensors_is_refused_even_if_its_digest_matches(tmp_path):
    (tmp_path / FEATURES_NAME).write_bytes(b"nothing")
    with pytest.raises(ModelUnusable):
        read_familiarity(tmp_path, manifest_with(b"nothing"))
