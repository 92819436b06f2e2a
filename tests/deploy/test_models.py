"""`dermqueue model`: which bundles there are, what they hold, whether they are intact, which one a start takes."""

import json
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from deploy.stack import own_folder, prepare_servers
from shared.bundle import CARD_NAME, MANIFEST_NAME, WEIGHTS_NAME, Figure
from shared.settings import Settings
from tests.conftest import BUCKET
from tests.worker.training.bundles import write_random_bundle

DEFAULT = Settings.model_fields["model"].default


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle that no test changes."""
    figures = {"auc_melanoma": Figure(value=0.9, low=0.85, high=0.94, n=100)}
    return write_random_bundle(tmp_path_factory.mktemp("bundles") / "mine", figures=figures)


def model(data_dir: Path, *arguments) -> Result:
    arguments = ["model", *map(str, arguments), "--data-dir", str(data_dir)]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def listed(data_dir: Path) -> dict[str, dict]:
    return {entry["model"]: entry for entry in json.loads(model(data_dir, "list", "--json").stdout)}


def next_start(data_dir: Path) -> str:
    """Return the model of a stack that starts in this folder."""
    return prepare_servers(data_dir)[0].model


def test_the_shipped_bundles_are_listed_and_the_default_is_in_use(tmp_path):
    entries = listed(tmp_path)
    assert entries[DEFAULT]["in_use"]
    assert entries[DEFAULT]["manifest"]["labels"][0] == "melanoma"
    assert model(tmp_path, "list").stdout.startswith(f"* {DEFAULT}  ")


def test_bundles_in_the_stacks_folder_are_listed_with_their_figures_and_the_damaged_ones_as_such(tmp_path, bundle):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "good").symlink_to(bundle)
    (tmp_path / "models" / "bad").mkdir()
    text = model(tmp_path, "list").stdout
    assert "tiny 1, 32 px, AUC melanoma 0.900 (0.850 to 0.940), MIT" in text
    assert f"bad  There is no readable {MANIFEST_NAME}" in text


def test_a_bundle_shows_its_card_or_its_manifest(tmp_path, bundle):
    assert model(tmp_path, "show", bundle).stdout == (bundle / CARD_NAME).read_text() + "\n"
    manifest = json.loads(model(tmp_path, "show", bundle, "--json").stdout)
    assert manifest["name"] == "tiny"
    assert manifest["operating_points"][0]["name"] == "screening"


def test_an_intact_bundle_is_verified(tmp_path, bundle):
    done = model(tmp_path, "verify", bundle)
    assert (done.exit_code, done.stdout) == (0, "tiny 1 is intact, loads, and gives finite numbers.\n")


@pytest.mark.parametrize("command", ["verify", "use"])
def test_a_bundle_is_verified_on_the_device_that_is_set(tmp_path, bundle, monkeypatch, command):
    monkeypatch.setenv("DERMQUEUE_DEVICE", "none")
    done = model(tmp_path, command, bundle)
    assert (done.exit_code, "DERMQUEUE_DEVICE: input should be" in done.output) == (1, True)


@pytest.mark.parametrize("name", [MANIFEST_NAME, WEIGHTS_NAME, CARD_NAME])
def test_a_bundle_without_one_of_its_files_fails_and_is_not_chosen(tmp_path, bundle, name):
    broken = tmp_path / "broken"
    broken.mkdir()
    for other in {MANIFEST_NAME, WEIGHTS_NAME, CARD_NAME} - {name}:
        (broken / other).symlink_to(bundle / other)
    for command in ("verify", "use"):
        done = model(tmp_path / "data", command, broken)
        assert done.exit_code == 1
        assert name in done.output
    assert next_start(tmp_path / "data") == DEFAULT


@pytest.mark.parametrize("before_the_first_start", [True, False])
def test_the_stack_starts_with_the_chosen_bundle_from_then_on(tmp_path, bundle, monkeypatch, before_the_first_start):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    if not before_the_first_start:
        prepare_servers(data_dir)
    monkeypatch.chdir(bundle.parent)
    assert model(data_dir, "use", bundle.name).exit_code == 0
    monkeypatch.chdir(tmp_path)
    assert [next_start(data_dir) for _ in range(2)] == [str(bundle)] * 2
    assert listed(data_dir)[str(bundle)]["in_use"]
    assert model(data_dir, "use", DEFAULT).exit_code == 0
    assert next_start(data_dir) == DEFAULT


def test_a_bundle_in_the_stacks_folder_is_chosen_by_its_name(tmp_path, bundle):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").symlink_to(bundle)
    assert model(tmp_path, "use", "mine").exit_code == 0
    assert Path(next_start(tmp_path)) == bundle


def test_choosing_while_a_stack_runs_says_to_start_it_again(tmp_path, bundle):
    with own_folder(tmp_path):
        running = model(tmp_path, "use", bundle)
    assert "start it again" in running.output
    assert next_start(tmp_path) == str(bundle)
    assert "start it again" not in model(tmp_path, "use", bundle).output


def test_a_variable_that_overrides_the_choice_is_pointed_out(tmp_path, bundle, monkeypatch):
    monkeypatch.setenv("DERMQUEUE_MODEL", DEFAULT)
    assert f"DERMQUEUE_MODEL is set to {DEFAULT} and overrides it" in model(tmp_path, "use", bundle).output
    assert listed(tmp_path)[DEFAULT]["in_use"]


def test_a_bundle_in_s3_is_shown_verified_and_chosen(tmp_path, bundle, servers, monkeypatch):
    variables = servers | {"database_url": "sqlite:///not_opened.sqlite3"}
    for name, value in variables.items():
        monkeypatch.setenv(f"DERMQUEUE_{name.upper()}", value)
    client = boto3.client(
        "s3",
        endpoint_url=servers["s3_endpoint_url"],
        aws_access_key_id=servers["s3_access_key"],
        aws_secret_access_key=servers["s3_secret_key"],
        region_name="us-east-1",
    )
    for file in bundle.iterdir():
        client.upload_file(str(file), BUCKET, f"models/mine/{file.name}")
    address = f"s3://{BUCKET}/models/mine"
    assert "It has learnt nothing." in model(tmp_path, "show", address).stdout
    assert model(tmp_path, "verify", address).exit_code == 0
    assert model(tmp_path, "use", address).exit_code == 0
    assert "in S3" in listed(tmp_path)[address]["problem"]
    assert listed(tmp_path)[address]["in_use"]
