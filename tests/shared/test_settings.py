"""A wrong setting stops the process with a sentence that names it, and that never repeats a secret."""

import traceback
from pathlib import Path

import pytest

from shared.errors import ConfigurationInvalid
from shared.settings import STACK_ENV, load_settings, read_device

SECRET = "hunter2"  # pragma: allowlist secret
REQUIRED = {"DATABASE_URL": "sqlite:///cases.sqlite3", "BROKER_URL": "redis://localhost", "S3_BUCKET": "cases"}


@pytest.fixture
def environment(monkeypatch):
    """Sets `DERMQUEUE_*` variables by their last part; what every server needs is set."""

    def set_variables(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"DERMQUEUE_{name}", value)

    set_variables(**REQUIRED)
    return set_variables


def write_stack_env(data_dir: Path, **values: str) -> None:
    (data_dir / STACK_ENV).write_text("".join(f"DERMQUEUE_{name}={value}\n" for name, value in values.items()))


def refusal(data_dir: Path) -> ConfigurationInvalid:
    with pytest.raises(ConfigurationInvalid) as caught:
        load_settings(data_dir)
    return caught.value


def test_what_is_not_set_has_a_default(environment, tmp_path):
    settings = load_settings(tmp_path)
    assert (settings.s3_bucket, settings.s3_endpoint_url, settings.device) == ("cases", None, "auto")


def test_what_is_set_to_nothing_is_not_set(environment, tmp_path):
    environment(S3_ACCESS_KEY="", S3_SECRET_KEY="", METRICS_TOKEN="", DEVICE="")
    settings = load_settings(tmp_path)
    unset = settings.s3_access_key, settings.s3_secret_key, settings.metrics_token
    assert (*unset, settings.device) == (None, None, None, "auto")


@pytest.mark.parametrize(
    ("name", "meant"), [("LEASE", "LEASE_S"), ("S3_BUKET", "S3_BUCKET"), ("DATABASE_URI", "DATABASE_URL")]
)
def test_a_misspelt_variable_is_named_with_the_one_that_was_meant(environment, tmp_path, name, meant):
    environment(**{name: "1"})
    error = refusal(tmp_path)
    assert error.code == "setting_unknown"
    assert f"DERMQUEUE_{name} is not a DermQueue setting" in error.detail
    assert f"Did you mean DERMQUEUE_{meant}?" in error.detail


def test_a_variable_that_resembles_none_is_named_without_a_guess(environment, tmp_path):
    environment(XYZZY="1")
    assert refusal(tmp_path).detail == "DERMQUEUE_XYZZY is not a DermQueue setting."


def test_the_variables_of_the_command_line_are_let_through(environment, tmp_path):
    environment(URL="http://localhost:8000", KEY="dq_key", LOG_LEVEL="debug")
    assert load_settings(tmp_path).s3_bucket == "cases"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("LEASE_S", "abc", "valid number"),
        ("LEASE_S", "0.5", "greater than or equal to 1"),
        ("LEASE_S", "inf", "finite number"),
        ("LEASE_S", "nan", "finite number"),
        ("SWEEP_INTERVAL_S", "0", "greater than 0"),
        ("BATCH_SIZE", "0", "greater than or equal to 1"),
        ("BATCH_SIZE", "257", "less than or equal to 256"),
        ("BATCH_SIZE", "2.5", "valid integer"),
        ("WORKER_THREADS", "17", "less than or equal to 16"),
        ("API_THREADS", "1", "greater than or equal to 2"),
        ("MAX_UPLOAD_BYTES", "10", "greater than or equal to 1024"),
        ("DEVICE", "tpu", "'auto', 'cpu' or 'cuda'"),
        ("S3_BUCKET", "ab", "at least 3 characters"),
        ("S3_BUCKET", "lesions/north", "should match pattern"),
        ("S3_REGION", "eu central 1", "should match pattern"),
        ("S3_REGION", "eu-", "should match pattern"),
        ("S3_ENCRYPTION", "aes", "'AES256', 'aws:kms' or 'none'"),
        ("S3_ENDPOINT_URL", "localhost:8333", "must begin with http:// or https://"),
        ("S3_ENDPOINT_URL", "http://:8333", "must name a host"),
        ("S3_ENDPOINT_URL", "http://s3.example:80O0", "a port from 1 to 65535"),
        ("S3_ENDPOINT_URL", "http://s3.example:0", "a port from 1 to 65535"),
        ("S3_ENDPOINT_URL", "https://key@s3.example", "must hold no key"),
        ("S3_PUBLIC_URL", "files.example", "must begin with http:// or https://"),
        ("PHOTOGRAPHS_IN_MEMORY", "0", "greater than or equal to 1"),
        ("BROKER_URL", "amqp://localhost", "must begin with redis:// or rediss://"),
        ("BROKER_URL", "redis://:abc/def@localhost", "write / ? # @ : as %2F %3F %23 %40 %3A"),
        ("BROKER_URL", "redis://:12?34@localhost", "write / ? # @ : as %2F %3F %23 %40 %3A"),
        ("BROKER_URL", "redis://[localhost", "must name a host"),
        ("DATABASE_URL", "mysql://localhost/cases", "must begin with postgresql:// or name a file with sqlite:///"),
        ("DATABASE_URL", "postgresql+psycopg2://localhost/cases", "must begin with postgresql://"),
        ("DATABASE_URL", "postgresql://user:half@other@localhost/cases", "write / ? # @ : as %2F %3F %23 %40 %3A"),
        ("DATABASE_URL", "postgresql://user:half@oth/er@localhost/cases", "must have one @ before the host"),
        ("DATABASE_URL", "sqlite://", "name a file with sqlite:///"),
        ("DATABASE_URL", "sqlite:///:memory:", "name a file with sqlite:///"),
        ("DATABASE_URL", "cases.sqlite3", "must be an SQLAlchemy URL"),
        ("DATABASE_URL", "postgresql://localhost:port/cases", "must be an SQLAlchemy URL"),
    ],
)
def test_a_malformed_value_is_refused_by_the_name_of_its_variable(environment, tmp_path, name, value, reason):
    environment(**{name: value})
    error = refusal(tmp_path)
    assert error.code == "setting_malformed"
    assert error.detail.startswith(f"DERMQUEUE_{name}: ")
    assert reason in error.detail


def test_a_password_may_hold_anything_that_is_escaped_and_a_host_may_be_an_ipv6_address(environment, tmp_path):
    broker, database = "rediss://:a%2F%40%3A@[::1]:6380/0", "postgresql+psycopg://user:a%2F%40%3A@[::1]:5433/cases"
    environment(BROKER_URL=broker, DATABASE_URL=database, S3_ENDPOINT_URL="http://[::1]:8333")
    settings = load_settings(tmp_path)
    assert (settings.broker_url, settings.database_url) == (broker, database)


def test_onnx_runtime_on_a_gpu_is_refused(environment, tmp_path):
    environment(RUNTIME="onnxruntime")
    assert load_settings(tmp_path).runtime == "onnxruntime"
    environment(DEVICE="cuda")
    error = refusal(tmp_path)
    assert error.code == "setting_malformed"
    assert error.detail.startswith("DERMQUEUE_RUNTIME: onnxruntime is for CPUs")


def test_a_command_reads_the_device_where_nothing_else_is_set(monkeypatch):
    assert read_device() == "auto"
    monkeypatch.setenv("DERMQUEUE_DEVICE", "cpu")
    assert read_device() == "cpu"
    monkeypatch.setenv("DERMQUEUE_DEVICE", "tpu")
    with pytest.raises(ConfigurationInvalid, match="DERMQUEUE_DEVICE: input should be 'auto', 'cpu' or 'cuda'"):
        read_device()


def test_a_store_without_a_bucket_is_told_that_it_needs_one(environment, monkeypatch, tmp_path):
    monkeypatch.delenv("DERMQUEUE_S3_BUCKET")
    monkeypatch.setenv("DERMQUEUE_S3_ENDPOINT_URL", "https://s3.example")
    assert "DERMQUEUE_S3_ENDPOINT_URL is set, but DERMQUEUE_S3_BUCKET is not" in refusal(tmp_path).detail


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_variable_is_named_with_what_to_do(environment, monkeypatch, tmp_path, name):
    monkeypatch.delenv(f"DERMQUEUE_{name}")
    error = refusal(tmp_path)
    assert error.code == "setting_missing"
    assert error.detail.startswith(f"DERMQUEUE_{name} is not set")
    assert "dermqueue up" in error.detail


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://user:{SECRET}@localhost/cases"),
        ("DATABASE_URL", f"postgresql://user:half@of:{SECRET}@localhost/cases"),
        ("DATABASE_URL", f"postgresql://:{SECRET}"),
        ("DATABASE_URL", SECRET),
        ("DATABASE_URL", f"postgresql://user:half@{SECRET}@localhost/cases"),
        ("BROKER_URL", f"amqp://:{SECRET}@localhost"),
        ("BROKER_URL", f"redis://:{SECRET}/half@localhost"),
        ("BROKER_URL", f"redis://:12/{SECRET}@localhost"),
        ("S3_ENDPOINT_URL", f"https://key:{SECRET}@localhost"),
        ("S3_ENDPOINT_URL", f"key:{SECRET}@localhost"),
        ("S3_SECRET", SECRET),
        ("LEASE_S", SECRET),
    ],
)
def test_neither_the_sentence_nor_the_traceback_repeats_a_secret(environment, tmp_path, name, value):
    environment(**{name: value})
    error = refusal(tmp_path)
    assert SECRET not in "".join(traceback.format_exception(error))


def test_settings_can_be_printed_without_giving_a_secret_away(environment, tmp_path):
    environment(
        DATABASE_URL=f"postgresql://user:{SECRET}@localhost/cases",
        BROKER_URL=f"redis://:{SECRET}@localhost",
        S3_SECRET_KEY=SECRET,
    )
    settings = load_settings(tmp_path)
    assert SECRET not in f"{settings!r} {settings}"
    assert SECRET in settings.database_url
    assert settings.s3_secret_key.get_secret_value() == SECRET


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_name_of_postgresql_means_the_driver_that_is_installed(environment, tmp_path, scheme):
    address = "://user:p%40ss@db.example:5433/cases?sslmode=require"  # pragma: allowlist secret
    environment(DATABASE_URL=scheme + address)
    assert load_settings(tmp_path).database_url == "postgresql+psycopg" + address


def test_what_the_embedded_stack_wrote_is_read_without_any_variable(tmp_path):
    write_stack_env(tmp_path, **REQUIRED, LEASE_S="30")
    assert load_settings(tmp_path).lease_s == 30


def test_a_variable_wins_over_the_embedded_stacks_file(environment, tmp_path):
    write_stack_env(tmp_path, **REQUIRED | {"S3_BUCKET": "embedded"}, LEASE_S="30")
    environment(S3_BUCKET="from-outside")
    settings = load_settings(tmp_path)
    assert (settings.s3_bucket, settings.lease_s) == ("from-outside", 30)


def test_an_unknown_name_in_the_embedded_stacks_file_is_named_with_the_file(tmp_path):
    write_stack_env(tmp_path, **REQUIRED, LEESE_S=SECRET)
    error = refusal(tmp_path)
    assert error.code == "setting_unknown"
    assert error.detail == f"DERMQUEUE_LEESE_S in {tmp_path / STACK_ENV} is not a DermQueue setting."
