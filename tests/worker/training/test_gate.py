"""`dermqueue gate`: a bundle learns what its training images are like, and how often its warnings are right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from deploy.cli import main
from shared.bundle import CARD_NAME, FEATURES_NAME, read_manifest
from shared.errors import ModelUnusable
from tests import images
from tests.worker.networks import tiny_manifest
from tests.worker.training.bundles import write_random_bundle
from tests.worker.training.data import write_data
from worker.model import load_model
from worker.training.bundling import rewrite, write_familiarity
from worker.training.card import describe_gate

LABELS = ("1,0", "0,1", "0,0")


def run(*arguments):
    wide = {"COLUMNS": "200"}
    return CliRunner().invoke(main, ["gate", *map(str, arguments)], catch_exceptions=False, env=wide)


@pytest.fixture(scope="module")
def lesions(tmp_path_factory) -> tuple[Path, Path]:
    return write_data(tmp_path_factory.mktemp("lesions"), tuple(f"I{i},{LABELS[i % 3]}" for i in range(18)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, lesions) -> Path:
    folder = write_random_bundle(tmp_path_factory.mktemp("bundles") / "mine")
    (folder / CARD_NAME).write_text("# mine\n\nIt has learnt nothing.\n\n## How it was trained\n\nNot at all.\n")
    done = run("learn", "--bundle", folder, "--data", *lesions)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def others(tmp_path) -> Path:
    """A folder with a black photograph, and a subfolder with one of noise and two files that are not photographs."""
    (tmp_path / "below").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    (tmp_path / "black.png").write_bytes(images.encode(images.lesion().point(lambda level: level // 15), "PNG"))
    (tmp_path / "below" / "noise.png").write_bytes(images.encode(Image.fromarray(noise), "PNG"))
    (tmp_path / "below" / "notes.txt").write_text("no image")
    (tmp_path / "below" / "noise_superpixels.png").write_bytes(images.encode(images.lesion(), "PNG"))
    return tmp_path


def test_a_bundle_learns_its_images_without_a_change_of_its_weights_and_says_so_on_its_card(bundle):
    check = read_manifest(bundle).familiarity
    assert check.threshold > 0
    assert check.learnt_on == "18 images of images"
    assert (bundle / FEATURES_NAME).stat().st_size < 1_000_000
    assert (bundle / FEATURES_NAME).stat().st_mode & 0o777 == 0o644
    assert read_manifest(bundle).limits == tiny_manifest().limits
    card = (bundle / CARD_NAME).read_text()
    assert card.index("## Photographs unlike its training images") < card.index("## How it was trained")
    load_model(bundle, torch.device("cpu"))  # which verifies both files


def test_a_bundle_with_statistics_of_other_features_is_refused_until_it_learns_anew(tmp_path, lesions):
    folder = write_random_bundle(tmp_path / "old")
    sources = ((lesions[0], lesions[1]),)
    old_shares = [np.random.default_rng(0).uniform(0, 0.1, (18, 2048))]
    check = write_familiarity(folder, old_shares, tuple(map(str, range(18))), sources)
    rewrite(folder, read_manifest(folder).model_copy(update={"familiarity": check}), "# old\n")
    with pytest.raises(ModelUnusable, match="gate learn") as refusal:
        load_model(folder, torch.device("cpu"))
    assert refusal.value.code == "familiarity_outdated"
    done = run("learn", "--bundle", folder, "--data", *lesions)
    assert done.exit_code == 0, done.output
    load_model(folder, torch.device("cpu"))


def test_what_is_said_of_images_is_counted_by_code_and_noted_in_the_bundle(bundle, others, lesions):
    done = run("measure", "--bundle", bundle, "--images", "others", others, "--images", "own", lesions[0], "--note")
    assert done.exit_code == 0, done.output
    assert "image_dark 50.0%" in done.stdout
    flagged = read_manifest(bundle).familiarity.flagged
    assert (flagged["others"].n, flagged["own"].n) == (2, 18)
    assert flagged["own"].value <= 0.2
    others = flagged["others"]
    row = f"| others | {others.value:.3f} | {others.low:.3f} to {others.high:.3f} | 2 |"
    assert row in (bundle / CARD_NAME).read_text()


def test_images_are_measured_on_the_device_that_is_set(bundle, others, monkeypatch):
    monkeypatch.setenv("DERMQUEUE_DEVICE", "none")
    assert "DERMQUEUE_DEVICE: input should be" in run("measure", "--bundle", bundle, "--images", "o", others).output


def test_degraded_images_are_flagged(bundle, lesions):
    done = run("measure", "--bundle", bundle, "--worse", "lesions", lesions[0])
    rows = [line for line in done.stdout.splitlines() if "lesions, " in line]
    assert len(rows) == 5
    assert all("100.0%" in row for row in rows), done.output


def test_measuring_nothing_is_a_usage_error_and_an_empty_folder_is_named(bundle, tmp_path):
    assert run("measure", "--bundle", bundle).exit_code == 2
    done = run("measure", "--bundle", bundle, "--images", "none", tmp_path)
    assert done.exit_code == 1
    assert "data_unusable" in done.output


def test_nothing_is_noted_in_a_bundle_in_s3(others):
    done = run("measure", "--bundle", "s3://models/mine", "--images", "others", others, "--note")
    assert done.exit_code == 2
    assert "one in S3 is only read" in done.output


def test_nothing_is_noted_in_a_bundle_without_statistics_of_its_images(tmp_path, others):
    done = run("measure", "--bundle", write_random_bundle(tmp_path / "random"), "--images", "others", others, "--note")
    assert done.exit_code == 1
    assert "familiarity_missing" in done.output


def test_a_card_has_the_section_once_however_often_it_is_written(bundle):
    card, check = (bundle / CARD_NAME).read_text(), read_manifest(bundle).familiarity
    assert describe_gate(card, check) == card
    assert describe_gate("# bare\n", check).count("## Photographs unlike") == 1
