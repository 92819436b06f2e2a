"""Real servers for the whole suite, and Chromium: started here once, they die with it."""

import gc
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import create_engine, make_url, text

from deploy.embedded.program import find_free_port
from deploy.embedded.seaweed import PORT_OFFSETS, seaweed_program, seaweed_url
from deploy.embedded.supervisor import Supervisor
from deploy.embedded.valkey import valkey_program, valkey_url
from shared.database import Database, open_database
from shared.migrations import upgrade
from shared.settings import Settings
from shared.storage import ObjectStore, open_object_store
from tests.servers.postgres import running_postgres

BUCKET = "dermqueue-tests"
ACCESS_KEY, SECRET_KEY = "tests", "tests-secret"


def pytest_addoption(parser) -> None:
    parser.addoption("--full", action="store_true", help="the long form of what has one: `make faults`, `schemathesis`")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported, torch above all: a tenth of the time of most tests."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("DERMQUEUE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def servers(tmp_path_factory) -> Iterator[dict]:
    """The broker and the S3 server, as settings."""
    folder = tmp_path_factory.mktemp("servers")
    valkey_port, seaweed_port, password = find_free_port(), find_free_port(PORT_OFFSETS), secrets.token_urlsafe(16)
    with Supervisor(folder, on_event=lambda *event: None) as supervisor:
        supervisor.start(
            [
                valkey_program(folder, valkey_port, password),
                seaweed_program(folder, seaweed_port, ACCESS_KEY, SECRET_KEY, BUCKET),
            ],
            Event(),
        )
        yield {
            "broker_url": valkey_url(valkey_port, password),
            "s3_endpoint_url": seaweed_url(seaweed_port),
            "s3_access_key": ACCESS_KEY,
            "s3_secret_key": SECRET_KEY,
            "s3_bucket": BUCKET,
        }


@pytest.fixture(scope="session")
def upgraded_postgres() -> Iterator[str]:
    """The URL of a PostgreSQL database with every migration applied; tests work on copies of it."""
    with running_postgres(in_memory=True) as url:
        template = open_database(url)
        upgrade(template)
        template.engine.dispose()
        yield url


@pytest.fixture(scope="session")
def upgraded_sqlite(tmp_path_factory) -> Path:
    """The file of a SQLite database with every migration applied; tests work on copies of it."""
    path = tmp_path_factory.mktemp("upgraded") / "template.sqlite3"
    template = open_database(f"sqlite:///{path}")
    upgrade(template)
    template.engine.dispose()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path) -> Iterator[str]:
    """A fresh database with the newest tables, on each of the two kinds."""
    if request.param == "sqlite":
        path = shutil.copyfile(request.getfixturevalue("upgraded_sqlite"), tmp_path / "test.sqlite3")
        yield f"sqlite:///{path}"
        return
    with copied_database(request.getfixturevalue("upgraded_postgres")) as url:
        yield url


@contextmanager
def copied_database(template_url: str) -> Iterator[str]:
    """Make a PostgreSQL database with the newest tables and nothing in them; drop it at the end."""
    template, name = make_url(template_url), f"test_{secrets.token_hex(6)}"
    admin = create_engine(template.set(database="template1"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template.database}"))
    yield template.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database(database_url) -> Iterator[Database]:
    database = open_database(database_url)
    yield database
    database.engine.dispose()


@pytest.fixture
def settings(database_url, servers) -> Settings:
    """Settings of a process that uses the suite's servers and this test's database."""
    return Settings(_env_file=None, database_url=database_url, **servers)


@pytest.fixture
def store(settings) -> ObjectStore:
    return open_object_store(settings)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium. Without one the tests fail: the pages were not tested."""
    program = shutil.which("chromium")
    assert program, "There is no Chromium on this machine: apt-get install chromium"
    with sync_playwright() as playwright:
        # Its own sandbox does not start for root, which CI runs as; it opens only our own pages here.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
