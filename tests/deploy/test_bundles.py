"""A bundle's name means the same to every command that reads one. Bundles in S3: `tests/deploy/test_models.py`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.bundles import opened_bundle, resolve_bundle
from deploy.cli import main
from shared.bundle import SHIPPED_BUNDLES

EMPTY = "/dev/null"
IMAGES = ("--data", ".", EMPTY)


@pytest.fixture
def mine(tmp_path) -> Path:
    """A folder in the data folder `tmp_path`, where bundles are found by name."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    return folder


def test_a_name_is_a_shipped_bundles_else_that_of_one_in_the_data_folder_else_a_path(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "open").mkdir()
    folders = {"open": SHIPPED_BUNDLES / "open", "mine": mine, "models": tmp_path / "models", str(mine): mine}
    for name, folder in folders.items():
        with opened_bundle(name, Path()) as opened:
            assert opened == folder
    (tmp_path / "models" / "runs" / "one").mkdir(parents=True)
    assert [resolve_bundle(path, tmp_path) for path in (".", "runs/one")] == [str(tmp_path), str(tmp_path / "runs/one")]


def test_a_bundle_in_s3_is_named_by_its_address(tmp_path):
    assert resolve_bundle("s3://models/mine", tmp_path) == "s3://models/mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ("model", "show", "mine"),
        ("evaluate", "--bundle", "mine", *IMAGES),
        ("evaluate", "--bundle", "open", "--against", "mine", *IMAGES),
        ("gate", "measure", "--bundle", "mine", "--images", "any", "."),
        ("export", "--bundle", "mine", "--out", "mine.onnx"),
        ("train", "--teacher-bundle", "mine", *IMAGES, "--weights", EMPTY, "--out", "run"),
    ],
    ids=" ".join,
)
def test_every_command_that_reads_a_bundle_looks_for_it_in_the_data_folder_by_its_name(mine, tmp_path, arguments):
    done = CliRunner().invoke(main, [*arguments, "--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "bundle_" in done.output
    assert str(mine) in done.output
