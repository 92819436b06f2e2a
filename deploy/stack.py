"""The local stack: embedded servers where no URL names one, and our own three processes, under one supervisor."""

import fcntl
import json
import os
import secrets
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import httpx
from dotenv import dotenv_values
from sqlalchemy.orm import Session

from deploy.embedded.program import Program, find_free_port, is_free
from deploy.embedded.seaweed import PORT_OFFSETS, seaweed_program, seaweed_url, store_folder
from deploy.embedded.supervisor import OnEvent, Supervisor
from deploy.embedded.valkey import valkey_program, valkey_url
from deploy.private_files import write_private
from shared.bundle import S3_SCHEME, find_bundle, read_manifest
from shared.database import Database, open_database, read_clock
from shared.domain import Role
from shared.errors import ConfigurationInvalid, NotAuthenticated
from shared.migrations import upgrade
from shared.settings import STACK_ENV, Settings, load_settings, refuse_unknown_variables
from shared.storage import open_object_store
from shared.store import access

CONNECTION = "connection.json"
DATABASE = "dermqueue.sqlite3"
KEYS = "keys.json"
MODEL_VARIABLE = "DERMQUEUE_MODEL"
RESTORING = f"{DATABASE}.restoring"
"""The database's name until everything is restored: if the file exists, a restore was interrupted."""

_WORKER_PROGRESS = "worker-progress"
_DEMO_CLINIC = "Demo clinic"
_ROLES = {"admin_key": Role.ADMIN, "reviewer_key": Role.REVIEWER, "clinic_key": Role.CLINIC}
_BUCKET = "dermqueue"
_S3_SERVER = {f"DERMQUEUE_S3_{name}" for name in ("BUCKET", "ENDPOINT_URL", "ACCESS_KEY", "SECRET_KEY")}
"""Any of these names a server; the other S3 settings apply to the embedded one, too."""


class LocalStack:
    """Everything on this machine, under one data folder; made and stopped by `local_stack`."""

    def __init__(self, data_dir: Path, port: int, on_event: OnEvent):
        self.data_dir, self._port = data_dir, port
        self._supervisor = Supervisor(data_dir, on_event)
        self.stop_event = Event()

    def start(self, await_worker: bool = False) -> dict[str, str]:
        """Start everything and return the connection, also written to `connection.json`; {} if told to stop.

        With `await_worker`, the worker must become ready, too; without, it may load its model meanwhile, or fail to.

        Raises:
            ConfigurationInvalid: a setting is wrong, or `port_in_use`, `restore_unfinished`.
            ModelUnusable: there is no such bundle, or it has no such operating point.
            StartFailed: a program did not become ready.
        """
        if (self.data_dir / RESTORING).exists():
            raise ConfigurationInvalid(
                "restore_unfinished",
                f"A restore into {self.data_dir} was interrupted. Run the same `dermqueue restore` again, or choose"
                " another --data-dir.",
            )
        if not is_free(self._port):  # or whatever answers there would be taken for this stack's API
            raise ConfigurationInvalid(
                "port_in_use",
                f"Port {self._port} is already in use, perhaps by another stack. Choose another --port.",
            )
        settings, servers = prepare_servers(self.data_dir)
        _check_model(settings)
        self._supervisor.start(servers, self.stop_event)
        if self.stop_event.is_set():
            return {}
        database = open_database(settings.database_url)
        upgrade(database)
        open_object_store(settings).ensure_bucket()
        keys = _ensure_keys(self.data_dir, database)
        database.engine.dispose()
        self._supervisor.start(own_programs(self.data_dir, self._port, await_worker), self.stop_event)
        connection = {"base_url": local_url(self._port), **keys}
        write_private(self.data_dir / CONNECTION, json.dumps(connection, indent=2) + "\n")
        return connection

    def run(self) -> None:
        """Keep everything running until `stop_event` is set."""
        self._supervisor.run_until(self.stop_event)

    def tend(self) -> None:
        """Restart what has died since the last time: `run`, step by step."""
        self._supervisor.tend()

    def stop(self) -> None:
        """Stop everything, last started first."""
        (self.data_dir / CONNECTION).unlink(missing_ok=True)
        self._supervisor.stop()


@contextmanager
def local_stack(data_dir: Path, port: int, on_event: OnEvent) -> Iterator[LocalStack]:
    """Own a data folder for as long as the stack runs; everything is stopped at the end, whatever happens inside."""
    with own_folder(data_dir):
        for left_by_a_killed_one in (CONNECTION, _WORKER_PROGRESS):
            (data_dir / left_by_a_killed_one).unlink(missing_ok=True)
        stack = LocalStack(data_dir, port, on_event)
        try:
            yield stack
        finally:
            stack.stop()


@contextmanager
def local_store(data_dir: Path, on_event: OnEvent) -> Iterator[Settings]:
    """Run only the S3 server, in a data folder that the caller owns, and yield the settings that reach it."""
    settings, servers = prepare_servers(data_dir)
    with Supervisor(data_dir, on_event) as supervisor:
        supervisor.start([server for server in servers if server.name == "seaweed"], Event())
        yield settings


@contextmanager
def own_folder(data_dir: Path) -> Iterator[None]:
    """Keep every other process from running a stack in this data folder, which is created if needed.

    Raises:
        ConfigurationInvalid: `data_dir_in_use`.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationInvalid(
                "data_dir_in_use",
                f"Another stack, backup or restore is using {data_dir}. Stop it, or choose another --data-dir.",
            ) from error
        yield


@contextmanager
def own_if_free(data_dir: Path) -> Iterator[bool]:
    """Own a data folder unless another process does, and yield whether it is ours; the block runs either way."""
    with ExitStack() as resources:
        try:
            resources.enter_context(own_folder(data_dir))
            is_ours = True
        except ConfigurationInvalid:
            is_ours = False
        yield is_ours


def keeps_data_elsewhere() -> bool:
    """Tell whether the database or the object store is given by URL and so not in the data folder."""
    return bool(os.environ.get("DERMQUEUE_DATABASE_URL")) or _s3_server_is_given()


def _s3_server_is_given() -> bool:
    return any(map(os.environ.get, _S3_SERVER))


def prepare_servers(data_dir: Path) -> tuple[Settings, list[Program]]:
    """Write `stack.env` for what no variable names, and return the settings and the servers to run for them.

    Ports and passwords are made once and kept, so that a restarted stack finds its data again.
    """
    refuse_unknown_variables()
    path = data_dir / STACK_ENV
    kept, programs = dict(dotenv_values(path)), []
    if not os.environ.get("DERMQUEUE_DATABASE_URL"):
        # Set anew each time: a folder that was moved or copied must not open the database of the old one.
        kept["DERMQUEUE_DATABASE_URL"] = f"sqlite:///{data_dir.resolve() / DATABASE}"
    else:
        kept.pop("DERMQUEUE_DATABASE_URL", None)  # a command without the variable must not use the old one
    if not os.environ.get("DERMQUEUE_BROKER_URL"):
        if "DERMQUEUE_BROKER_URL" not in kept:
            kept["DERMQUEUE_BROKER_URL"] = valkey_url(find_free_port(), secrets.token_urlsafe(24))
        broker = urlsplit(kept["DERMQUEUE_BROKER_URL"])
        programs.append(valkey_program(data_dir, broker.port, broker.password))
    else:
        kept.pop("DERMQUEUE_BROKER_URL", None)
    if not _s3_server_is_given():
        if "DERMQUEUE_S3_BUCKET" not in kept:
            kept |= {
                "DERMQUEUE_S3_BUCKET": _BUCKET,
                "DERMQUEUE_S3_ENDPOINT_URL": seaweed_url(find_free_port(PORT_OFFSETS)),
                "DERMQUEUE_S3_ACCESS_KEY": secrets.token_hex(10),
                "DERMQUEUE_S3_SECRET_KEY": secrets.token_urlsafe(30),
            }
        kept["DERMQUEUE_S3_FOLDER"] = str(store_folder(data_dir))
        port = urlsplit(kept["DERMQUEUE_S3_ENDPOINT_URL"]).port
        keys = kept["DERMQUEUE_S3_ACCESS_KEY"], kept["DERMQUEUE_S3_SECRET_KEY"]
        programs.append(seaweed_program(data_dir, port, *keys, kept["DERMQUEUE_S3_BUCKET"]))
    else:
        kept = {name: value for name, value in kept.items() if not name.startswith("DERMQUEUE_S3_")}
    _keep(path, kept)
    return load_settings(data_dir), programs


def chosen_model(data_dir: Path) -> str:
    """Return the model that a stack started now in this folder would load: the variable's, the kept, or the default."""
    kept = dotenv_values(data_dir / STACK_ENV)  # empty if there is no such file
    return os.environ.get(MODEL_VARIABLE) or kept.get(MODEL_VARIABLE) or Settings.model_fields["model"].default


def choose_model(data_dir: Path, model: str) -> bool:
    """Keep a model in `stack.env` for the next start; return whether a stack is running, still with its own model."""
    path = data_dir / STACK_ENV
    with own_if_free(data_dir) as is_ours:
        _keep(path, dotenv_values(path) | {MODEL_VARIABLE: model})
    return not is_ours


def _keep(path: Path, variables: dict[str, str | None]) -> None:
    write_private(path, "".join(f"{name}={value}\n" for name, value in variables.items()))


def local_url(port: int) -> str:
    """Return the address of an API on this machine."""
    return f"http://127.0.0.1:{port}"


def own_programs(data_dir: Path, port: int, await_worker: bool = False) -> list[Program]:
    """Return API, worker and beat as programs; each reads its settings for itself."""

    def program(name: str, *options: str, **timing) -> Program:
        command = (sys.executable, str(Path(sysconfig.get_path("scripts")) / "dermqueue"), name)
        return Program(name, (*command, "--data-dir", str(data_dir), *options), env=dict(os.environ), **timing)

    progress, options, awaited = data_dir / _WORKER_PROGRESS, (), {}
    if await_worker:
        options = ("--progress-file", str(progress))
        awaited = {"is_ready": progress.exists, "start_timeout_s": 300.0}
    return [
        program("api", "--port", str(port), is_ready=lambda: is_alive(local_url(port)), stop_timeout_s=40.0),
        program("worker", *options, stop_timeout_s=60.0, **awaited),
        program("beat", "--schedule-file", str(data_dir / "beat")),
    ]


def _check_model(settings: Settings) -> None:
    """Find a misspelt bundle or operating point now: the worker would be restarted for ever, and cases would wait."""
    if not settings.model.startswith(S3_SCHEME):
        read_manifest(find_bundle(settings.model)).operating_point(settings.operating_point)


def is_alive(base_url: str) -> bool:
    """Return whether an API answers there."""
    try:
        return httpx.get(f"{base_url}/healthz", timeout=1, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _ensure_keys(data_dir: Path, database: Database) -> dict[str, str]:
    """Return one key per role that is valid in this database; make those that are missing or no longer valid."""
    path = data_dir / KEYS
    kept = json.loads(path.read_text()) if path.exists() else {}
    with database.writing() as session:
        keys = {name: key for name, key in kept.items() if _is_valid(session, key)}
        if keys.keys() == _ROLES.keys():
            return keys
        keys |= {name: _make_key(session, role) for name, role in _ROLES.items() if name not in keys}
    write_private(path, json.dumps(keys, indent=2) + "\n")
    return keys


def _make_key(session: Session, role: Role) -> str:
    """Make a key; a clinic's is the demo clinic's, which is added if needed."""
    now, clinic_id = read_clock(session), None
    if role is Role.CLINIC:
        clinics = {clinic.name: clinic.id for clinic in access.list_clinics(session)}
        clinic_id = clinics.get(_DEMO_CLINIC) or access.add_clinic(session, _DEMO_CLINIC, now)
    return access.add_key(session, role, clinic_id, now).key


def _is_valid(session: Session, key: str) -> bool:
    try:
        access.authenticate(session, key)
    except NotAuthenticated:
        return False
    return True
