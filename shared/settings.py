"""Settings: `DERMQUEUE_*` variables, else what the embedded stack wrote to `<data-dir>/stack.env`."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from shared.domain import LONGEST_LEASE_S
from shared.errors import ConfigurationInvalid

PREFIX = "DERMQUEUE_"
COMMAND_LINE_VARIABLES = ("DERMQUEUE_URL", "DERMQUEUE_KEY", "DERMQUEUE_LOG_LEVEL", "DERMQUEUE_LOG_FORMAT")
"""Read by the command line itself: the API's address and key for client commands, the log level and format."""

DEFAULT_DATA_DIR = Path(".dermqueue")
STACK_ENV = "stack.env"
_ESCAPES = "in a password, write / ? # @ : as %2F %3F %23 %40 %3A"


def _database_url(value: str) -> str:
    try:
        url = make_url(value)
    except (ArgumentError, ValueError) as error:  # a non-numeric port is a ValueError, which quotes the URL
        raise ValueError(
            f"must be an SQLAlchemy URL such as postgresql://user:password@host/name; {_ESCAPES}"
        ) from error
    if url.drivername != "sqlite" and "@" in f"{url.host}{url.database}":  # the rest of a password, read as a name
        raise ValueError(f"must have one @ before the host; {_ESCAPES}")
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
        return value
    raise ValueError("must begin with postgresql:// or name a file with sqlite:///")


def _with_scheme(*schemes: str):
    def check(value: str) -> str:
        if not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        if not _names_host(value):
            raise ValueError(f"must name a host and, if any, a port from 1 to 65535; {_ESCAPES}")
        return value

    return check


def _names_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.port != 0 and bool(parts.hostname)
    except ValueError:  # it quotes what it takes for a port: of a password with a slash, the beginning
        return False


def _without_password(url: str) -> str:
    if "@" in urlsplit(url).netloc:  # boto3's errors quote the address
        raise ValueError(f"must hold no key or password: {PREFIX}S3_ACCESS_KEY and {PREFIX}S3_SECRET_KEY are for these")
    return url


_StoreUrl = Annotated[str, AfterValidator(_with_scheme("http", "https")), AfterValidator(_without_password)]


class DeviceSettings(BaseSettings):
    """The one setting of commands that read or train a network and need no server."""

    # Errors hide the input and URLs are left out of the repr: both may hold a password, and both end up in tracebacks.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    device: Literal["auto", "cpu", "cuda"] = "auto"


class Settings(DeviceSettings):
    """Every setting of a server process. A variable always overrides the embedded stack's file."""

    database_url: Annotated[str, AfterValidator(_database_url)] = Field(repr=False)
    broker_url: Annotated[str, AfterValidator(_with_scheme("redis", "rediss"))] = Field(repr=False)
    s3_bucket: str = Field(min_length=3, max_length=63, pattern=r"^[A-Za-z0-9._-]+$")
    s3_endpoint_url: _StoreUrl | None = None
    s3_public_url: _StoreUrl | None = Field(
        None, description="where clinics reach the object store, if not at s3_endpoint_url"
    )
    s3_folder: Path | None = Field(
        None,
        description="the object store's data folder, if the store runs on this machine and acknowledges writes before"
        " they reach the disk; a case is accepted only once they have",
    )
    s3_region: str = Field("us-east-1", max_length=63, pattern=r"^[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$")
    s3_access_key: str | None = None
    s3_secret_key: SecretStr | None = None
    s3_encryption: Literal["AES256", "aws:kms", "none"] = Field("AES256", description="requested for every object")

    model: str = Field("open", description="a shipped bundle's name, a bundle's folder, or s3://bucket/prefix")
    operating_point: str | None = Field(None, description="one of the bundle's operating points; its default if unset")
    runtime: Literal["auto", "torch", "onnxruntime"] = Field(
        "auto", description="what runs the network; auto: ONNX Runtime on a CPU, torch elsewhere"
    )
    batch_size: int = Field(16, ge=1, le=256)
    worker_threads: int = Field(2, ge=1, le=16, description="one batch decodes while another is on the device")
    lease_s: float = Field(
        60, ge=1, le=LONGEST_LEASE_S, description="a case without a result after this time goes to another worker"
    )
    sweep_interval_s: float = Field(2, gt=0)

    max_upload_bytes: int = Field(25 * 1024 * 1024, ge=1024)
    photographs_in_memory: int = Field(4, ge=1, description="that one API process holds at once during intake")
    clinic_waiting_limit: int = Field(2000, ge=1, description="waiting cases per clinic, unless it has its own limit")
    backlog_limit: int = Field(100_000, ge=1, description="waiting cases overall; beyond it, submissions are refused")
    wrong_keys_per_minute: int = Field(30, ge=1, description="from one address, before it must wait")
    local_webhooks: bool = Field(False, description="allow webhooks to private addresses, for testing")
    trusted_proxies: int = Field(0, ge=0, description="reverse proxies in front whose X-Forwarded-For and -Proto count")
    api_processes: int = Field(2, ge=1)
    api_threads: int = Field(16, ge=2)

    metrics_token: SecretStr | None = Field(
        None, min_length=16, description="grants access to the API's /metrics, as an admin's key does"
    )
    metrics_host: str = Field("127.0.0.1", description="the address where a worker serves its own /metrics")
    metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="its port, or the next free one; no /metrics of its own if unset"
    )

    @field_validator("runtime")
    @classmethod
    def _fits_device(cls, runtime: str, given: ValidationInfo) -> str:
        if runtime == "onnxruntime" and given.data.get("device") == "cuda":
            raise ValueError("onnxruntime is for CPUs, and DERMQUEUE_DEVICE is cuda: set torch, or leave it unset")
        return runtime


def load_settings(data_dir: Path | None = None) -> Settings:
    """Read the settings once, at the start of a process.

    Raises:
        ConfigurationInvalid: a `DERMQUEUE_*` variable is unknown, malformed or missing; the sentence names it.
    """
    refuse_unknown_variables()
    stack_env = (data_dir or DEFAULT_DATA_DIR) / STACK_ENV
    try:
        return Settings(_env_file=stack_env)
    except ValidationError as error:
        raise _explain(error, stack_env) from error


def read_device() -> str:
    """Return `DERMQUEUE_DEVICE`, for a command that needs no other setting.

    Raises:
        ConfigurationInvalid: it is malformed.
    """
    try:
        return DeviceSettings().device
    except ValidationError as error:
        raise _explain(error, DEFAULT_DATA_DIR / STACK_ENV) from error


def refuse_unknown_variables() -> None:
    """Stop on a `DERMQUEUE_*` variable that nothing reads: a misspelt setting would be silently ignored.

    Raises:
        ConfigurationInvalid: names the first such variable and the one that was probably meant.
    """
    of_command_line = {name.removeprefix(PREFIX) for name in COMMAND_LINE_VARIABLES}
    known = {name.upper() for name in Settings.model_fields} | of_command_line
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix(PREFIX)
        if variable.upper().startswith(PREFIX) and name not in known:
            # Compared without the prefix, which would make any two names look alike.
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {PREFIX}{close[0]}?" if close else ""
            raise ConfigurationInvalid("setting_unknown", f"{variable} is not a DermQueue setting.{hint}")


def _explain(error: ValidationError, stack_env: Path) -> ConfigurationInvalid:
    first = error.errors()[0]
    variable = PREFIX + str(first["loc"][0]).removeprefix(PREFIX.lower()).upper()
    if first["type"] == "missing":
        if variable == f"{PREFIX}S3_BUCKET" and os.environ.get(f"{PREFIX}S3_ENDPOINT_URL"):
            detail = f"{PREFIX}S3_ENDPOINT_URL is set, but {variable} is not. Set it: a bucket in that object store."
            return ConfigurationInvalid("setting_missing", detail)
        return ConfigurationInvalid(
            "setting_missing",
            f"{variable} is not set, and no embedded stack has written {stack_env}."
            " Set it, or start the embedded stack with `dermqueue up`.",
        )
    if first["type"] == "extra_forbidden":
        return ConfigurationInvalid("setting_unknown", f"{variable} in {stack_env} is not a DermQueue setting.")
    reason = first["msg"].removeprefix("Value error, ")
    return ConfigurationInvalid("setting_malformed", f"{variable}: {reason[0].lower()}{reason[1:]}.")
