"""How many photographs and polls the API takes, beside a bare Flask route under the same gunicorn.

`python -m tests.benchmarks.api`
"""

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from threading import Event

import click
import httpx

from deploy.embedded.program import Program, find_free_port
from deploy.embedded.seaweed import PORT_OFFSETS, seaweed_program, seaweed_url
from deploy.embedded.supervisor import Supervisor
from deploy.embedded.valkey import valkey_program, valkey_url
from deploy.stack import is_alive, local_url
from shared.bundle import find_bundle, read_card, read_manifest
from shared.database import Database, open_database, read_clock
from shared.domain import Role
from shared.migrations import upgrade
from shared.settings import Settings
from shared.storage import open_object_store
from shared.store import models
from tests.api.calls import MODEL_DIGEST, record_result
from tests.benchmarks.contender import Piles
from tests.benchmarks.load import UNIQUE, Load, Request, drive
from tests.benchmarks.piles import FULL, SMALL, resized
from tests.factories import add_clinic, add_key, variables_of
from tests.servers.postgres import postgres_program, postgres_url

BUCKET = "benchmark"
SUBMITTERS, POLLERS = 16, 32

Drive = Callable[[float], Load]
"""Loads one server for this many seconds."""


@dataclass(frozen=True)
class Served:
    """The API on one kind of database."""

    database: Database
    port: int
    settings: Settings


def measure(quick: bool) -> dict:
    """Return what the API answers per second, on both kinds of database, and its ratios to the bare routes.

    The ratios are those of the stack as `dermqueue up` runs it: SQLite, photographs in full size. No worker runs.
    """
    rounds, seconds = (1, 1.0) if quick else (5, 3.0)
    # Not in the user's own temporary folder: PostgreSQL, which does not run as root, must reach it.
    with (
        tempfile.TemporaryDirectory(prefix="dermqueue-benchmark-") as name,
        ProcessPoolExecutor(1, get_context("spawn")) as clients,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        with _running(folder) as (bare_port, served):
            sizes = {"full size": FULL, "256 px": resized(folder / "small", SMALL)}
            contenders = _name_contenders(clients, bare_port, served, sizes)
            loads = _measure_in_turns(contenders, rounds, seconds)
    per_s = {name: median(load.per_s for load in found) for name, found in loads.items()}
    return {
        "ratios": {
            "ingest_over_bare": per_s["sqlite: ingest, full size"] / per_s["bare: ingest, full size"],
            "polls_over_bare": per_s["sqlite: polls"] / per_s["bare: polls"],
        },
        "per_s": per_s,
        "client_cores": {name: median(load.client_cores for load in found) for name, found in loads.items()},
    }


def _measure_in_turns(contenders: dict[str, Drive], rounds: int, seconds: float) -> dict[str, list[Load]]:
    """Let everybody take a turn in each round; a first one, which warms everything up, does not count."""
    found: dict[str, list[Load]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, load in contenders.items():
            loaded = load(seconds if number else 1.0)
            if number:
                found[name].append(loaded)
    return found


def _name_contenders(
    clients: ProcessPoolExecutor, bare_port: int, served: dict[str, Served], sizes: Piles
) -> dict[str, Drive]:
    def load(port: int, make_requests: Callable[[], Sequence[Request]], status: int, connections: int) -> Drive:
        return lambda seconds: clients.submit(drive, port, make_requests(), status, connections, seconds).result()

    contenders = {}
    for size, files in sizes.items():
        photographs = [file.read_bytes() for file in files]
        contenders[f"bare: ingest, {size}"] = load(
            bare_port, lambda photographs=photographs: _submissions("/store", "", photographs), 202, SUBMITTERS
        )
        for name, api in served.items():
            # A clinic of its own for each turn: its waiting cases are counted at every submission, up to its limit.
            contenders[f"{name}: ingest, {size}"] = load(
                api.port,
                lambda api=api, photographs=photographs: _submissions("/v1/cases", _new_key(api), photographs),
                202,
                SUBMITTERS,
            )
    contenders["bare: polls"] = load(bare_port, lambda: [_get("/constant", "")], 200, POLLERS)
    for name, api in served.items():
        for kind, (request, status) in _polls(api, FULL[0].read_bytes()).items():
            contenders[f"{name}: {kind}"] = load(api.port, lambda request=request: [request], status, POLLERS)
    return contenders


def _new_key(api: Served) -> str:
    return add_key(api.database, Role.CLINIC, add_clinic(api.database))


def _polls(api: Served, photograph: bytes) -> dict[str, tuple[Request, int]]:
    """Return ways to ask for a case that has a result, each with the status of its answer."""
    key = _new_key(api)
    with httpx.Client(
        base_url=f"http://127.0.0.1:{api.port}", headers={"Authorization": f"Bearer {key}"}, trust_env=False
    ) as client:
        case = client.post("/v1/cases", files={"image": ("lesion.jpg", photograph, "image/jpeg")}).raise_for_status()
        address = case.headers["Location"]
        record_result(api.database, open_object_store(api.settings), case.json()["id"])
        etag = client.get(address).raise_for_status().headers["ETag"]
    return {
        "polls": (_get(address, key), 200),
        "polls, Prefer: wait": (_get(address, key, "Prefer: wait=20\r\n"), 200),
        "polls, 304": (_get(address, key, f"If-None-Match: {etag}\r\n"), 304),
    }


def _get(path: str, key: str, headers: str = "") -> Request:
    return Request(f"GET {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {key}\r\n{headers}\r\n".encode())


def _submissions(path: str, key: str, photographs: Sequence[bytes]) -> Sequence[Request]:
    return [_submission(path, key, photograph) for photograph in photographs]


def _submission(path: str, key: str, photograph: bytes) -> Request:
    """Return the form that README tells clinics to send."""
    form = httpx.Request(
        "POST",
        "http://api",
        files={"image": ("lesion.jpg", photograph, "image/jpeg")},
        data={"reference": "demo-1", "priority": "urgent"},
    )
    body = form.read()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {key}\r\nIdempotency-Key: {UNIQUE.decode()}\r\n"
        f"Content-Type: {form.headers['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Request(head.encode(), body)


@contextmanager
def _running(folder: Path) -> Iterator[tuple[int, dict[str, Served]]]:
    """Run the bare server, and the API on SQLite and on PostgreSQL; yield the ports and what reaches their data."""
    sql_port, broker_port, s3_port = find_free_port(), find_free_port(), find_free_port(PORT_OFFSETS)
    password, s3_secret = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    urls = {"sqlite": f"sqlite:///{folder / 'benchmark.sqlite3'}", "postgresql": postgres_url(sql_port)}
    with ExitStack() as resources:
        supervisor = resources.enter_context(Supervisor(folder, on_event=lambda *event: None))
        servers = [
            postgres_program(folder, sql_port, options=()),
            valkey_program(folder, broker_port, password),
            seaweed_program(folder, s3_port, "benchmark", s3_secret, BUCKET),
        ]
        supervisor.start(servers, Event())
        served = {}
        for name, url in urls.items():
            settings = Settings(
                _env_file=None,
                database_url=url,
                broker_url=valkey_url(broker_port, password),
                s3_endpoint_url=seaweed_url(s3_port),
                s3_access_key="benchmark",
                s3_secret_key=s3_secret,
                s3_bucket=BUCKET,
            )
            served[name] = Served(_open_database(settings), find_free_port(), settings)
            resources.callback(served[name].database.engine.dispose)
            supervisor.start([_program(name, "deploy.cli", "api", "--port", served[name])], Event())
        bare = Served(served["sqlite"].database, find_free_port(), served["sqlite"].settings)
        supervisor.start([_program("bare", "tests.benchmarks.bare", bare)], Event())
        yield bare.port, served


def _open_database(settings: Settings) -> Database:
    """Return a database with the newest tables and the shipped model's card, to which results will point."""
    database = open_database(settings.database_url)
    upgrade(database)
    folder = find_bundle(settings.model)
    with database.writing() as session:
        manifest = read_manifest(folder).model_dump(mode="json")
        models.activate_model(session, MODEL_DIGEST, manifest, read_card(folder), read_clock(session))
    return database


def _program(name: str, module: str, *arguments: str | Served) -> Program:
    """Return a server as a program; the last argument is what it serves, given to it by its port."""
    *options, served = arguments
    return Program(
        name,
        (sys.executable, "-m", module, *options, str(served.port)),
        os.environ | variables_of(served.settings),
        is_ready=lambda: is_alive(local_url(served.port)),
        stop_timeout_s=40.0,
    )


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="One short round: whether it runs, not how fast.")
def main(quick: bool) -> None:
    click.echo(json.dumps(measure(quick), indent=2))


if __name__ == "__main__":
    main()
