"""A bundle in S3 is fetched from a real server, and every kind of failure has its own message."""

import hashlib
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import torch

from deploy.embedded.program import find_free_port
from shared.bundle import (
    CARD_NAME,
    FEATURES_NAME,
    MANIFEST_NAME,
    SHIPPED_BUNDLES,
    WEIGHTS_NAME,
    FamiliarityCheck,
    read_manifest,
)
from shared.errors import DermQueueError, ModelUnusable, Unavailable
from shared.settings import Settings
from tests.conftest import BUCKET
from tests.worker.networks import tiny_manifest
from tests.worker.training.bundles import write_random_bundle
from worker.bundle_source import local_bundle, place_in_s3
from worker.familiarity import read_familiarity
from worker.model import load_model
from worker.training.familiarity import learn_familiarity

NAMES = {MANIFEST_NAME, CARD_NAME, WEIGHTS_NAME}


@pytest.fixture
def database_url() -> str:
    """No database is used, so that no test runs once for each kind."""
    return "sqlite:///not_opened.sqlite3"


def put(store, prefix: str, **contents: bytes) -> str:
    """Store the three files of a bundle, each a few bytes if not given; return its address."""
    for name in NAMES:
        store.put(f"{prefix}/{name}", contents.get(name.partition(".")[0], b"few"), "application/octet-stream")
    return f"s3://{BUCKET}/{prefix}"


def refusal(model: str, settings: Settings) -> DermQueueError:
    with pytest.raises(DermQueueError) as caught, local_bundle(model, settings):
        pass
    return caught.value


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("s3://lesions/models/open", ("lesions", "models/open/")),
        ("s3://lesions/models/open/", ("lesions", "models/open/")),
        ("s3://models", ("models", "")),
        ("s3://models/", ("models", "")),
    ],
)
def test_an_address_is_a_bucket_and_a_prefix_whether_or_not_it_ends_in_a_slash(model, place):
    assert place_in_s3(model) == place


def test_a_bundle_in_s3_is_loaded_and_its_copy_is_gone_afterwards(settings, store, tmp_path):
    bundle, prefix = write_random_bundle(tmp_path / "bundle"), f"models/{uuid4()}"
    parts = {name.partition(".")[0]: (bundle / name).read_bytes() for name in NAMES}
    with local_bundle(put(store, prefix, **parts), settings) as folder:
        model = load_model(folder, torch.device("cpu"))
        assert {file.name for file in folder.iterdir()} == NAMES
    assert not folder.exists()
    assert model.digest == load_model(bundle, torch.device("cpu")).digest


def test_the_statistics_of_its_training_images_are_fetched_too_if_the_manifest_names_them(settings, store, tmp_path):
    features = learn_familiarity([np.random.default_rng(0).uniform(0, 1, (20, 5))])[0].to_bytes()
    check = FamiliarityCheck(sha256=hashlib.sha256(features).hexdigest(), threshold=1.0, learnt_on="nothing")
    prefix = f"models/{uuid4()}"
    put(store, prefix, bundle=tiny_manifest(familiarity=check).model_dump_json().encode())
    store.put(f"{prefix}/{FEATURES_NAME}", features, "application/octet-stream")
    with local_bundle(f"s3://{BUCKET}/{prefix}", settings) as folder:
        assert read_familiarity(folder, read_manifest(folder)) is not None


def test_a_bundle_may_have_a_bucket_to_itself(settings, store):
    contents = dict.fromkeys(NAMES, b"few") | {MANIFEST_NAME: tiny_manifest().model_dump_json().encode()}
    for name, data in contents.items():
        store.put(name, data, "application/octet-stream")
    with local_bundle(f"s3://{BUCKET}", settings) as folder:
        assert (folder / CARD_NAME).read_bytes() == b"few"


def test_a_damaged_copy_is_refused_by_its_digest(settings, store, tmp_path):
    bundle = write_random_bundle(tmp_path / "bundle")
    model = put(store, f"models/{uuid4()}", bundle=(bundle / MANIFEST_NAME).read_bytes())
    with local_bundle(model, settings) as folder, pytest.raises(ModelUnusable, match="sha256"):
        load_model(folder, torch.device("cpu"))


def test_a_prefix_without_a_bundle_is_named(settings):
    model = f"s3://{BUCKET}/nothing/here"
    error = refusal(model, settings)
    assert (error.code, error.detail) == ("bundle_missing", f"There is no {MANIFEST_NAME} under {model}.")


def test_a_file_that_is_too_large_is_not_fetched_to_its_end(settings, store):
    error = refusal(put(store, f"models/{uuid4()}", bundle=bytes(1_000_001)), settings)
    assert error.code == "bundle_too_large"
    assert MANIFEST_NAME in error.detail


def test_a_missing_bucket_is_reported_as_missing(settings):
    error = refusal(f"s3://never-made-{uuid4()}/open", settings)
    assert isinstance(error, Unavailable)
    assert error.code == "bundle_unreachable"
    assert "NoSuchBucket" in error.detail


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"s3_secret_key": "wrong-secret"}, "SignatureDoesNotMatch"),
        ({"s3_access_key": "nobody"}, "InvalidAccessKeyId"),
        ({"s3_endpoint_url": "http://127.0.0.1:{port}"}, "Could not connect"),
    ],
)
def test_wrong_credentials_and_an_unreachable_server_are_told_apart(settings, changes, said):
    changes = {name: value.format(port=find_free_port()) for name, value in changes.items()}
    wrong = Settings.model_validate(settings.model_dump() | changes)
    error = refusal(f"s3://{BUCKET}/open", wrong)
    assert said in error.detail
    assert "DERMQUEUE_S3_*" in error.detail
    assert "wrong-secret" not in error.detail


def test_what_is_not_in_s3_needs_no_settings_and_is_left_where_it_is(tmp_path):
    with local_bundle(str(tmp_path), None) as folder:
        assert folder == tmp_path
    with local_bundle("open", None) as folder:
        assert folder == Path(SHIPPED_BUNDLES, "open")
    assert tmp_path.exists()
