"""The API in this process, on the suite's real servers, with the keys of all who may call it."""

from collections.abc import Callable, Iterator
from io import BufferedRandom, FileIO

import boto3
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Select, make_url, select

from api.app import create_app
from api.services import EXTENSION, Services, open_services
from deploy.embedded.program import find_free_port
from shared.database import Database, read_clock
from shared.dispatch import ANALYZE_QUEUE
from shared.domain import Role
from shared.settings import Settings
from shared.store import access
from shared.tables import Table
from tests.api.calls import Api, Clinic, record_result
from tests.factories import add_clinic, add_key
from tests.waiting import await_rings


@pytest.fixture
def open_app(settings) -> Iterator[Callable[..., Flask]]:
    """Make apps whose settings differ from the suite's."""
    apps = []

    def make(**changes) -> Flask:
        apps.append(create_app(settings.model_copy(update=changes)))
        return apps[-1]

    yield make
    for app in apps:
        services_of(app).database.engine.dispose()


def services_of(app: Flask) -> Services:
    return app.extensions[EXTENSION]


@pytest.fixture(scope="session")
def shared_app(servers, upgraded_sqlite) -> Flask:
    """An app whose services `app` replaces: setting up all the routes takes longer than most tests."""
    return create_app(Settings(_env_file=None, database_url=f"sqlite:///{upgraded_sqlite}", **servers))


@pytest.fixture
def app(shared_app, settings) -> Iterator[Flask]:
    shared_app.extensions[EXTENSION] = open_services(settings)
    yield shared_app
    services_of(shared_app).database.engine.dispose()


@pytest.fixture
def services(app) -> Services:
    return services_of(app)


@pytest.fixture
def client(app) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def clinic(client, database) -> Clinic:
    return make_clinic(client, database)


@pytest.fixture
def other_clinic(client, database) -> Clinic:
    return make_clinic(client, database)


def make_clinic(client: FlaskClient, database: Database) -> Clinic:
    clinic_id = add_clinic(database)
    return Clinic(client, add_key(database, Role.CLINIC, clinic_id), clinic_id)


@pytest.fixture
def reviewer(client, database) -> Api:
    return Api(client, add_key(database, Role.REVIEWER))


@pytest.fixture
def admin(client, database) -> Api:
    return Api(client, add_key(database, Role.ADMIN))


@pytest.fixture
def revoked(client, database) -> Api:
    """A clinic's key that was valid once."""
    key = add_key(database, Role.CLINIC, add_clinic(database))
    with database.writing() as session:
        access.revoke_key(session, key, read_clock(session))
    return Api(client, key)


@pytest.fixture
def succeed(database, store) -> Callable[[str], None]:
    """Record a result for the case of this id, as a worker would."""
    return lambda case_id, **changes: record_result(database, store, case_id, **changes)


@pytest.fixture
def full_disk(monkeypatch) -> None:
    """Leave no room for the files of a form."""
    monkeypatch.setattr("api.bodies.SpooledTemporaryFile", lambda _: BufferedRandom(FileIO("/dev/full", "r+")))


@pytest.fixture(scope="session")
def s3(servers):
    """A client of the S3 server that knows nothing of our adapter."""
    return boto3.client(
        "s3",
        endpoint_url=servers["s3_endpoint_url"],
        region_name="us-east-1",
        aws_access_key_id=servers["s3_access_key"],
        aws_secret_access_key=servers["s3_secret_key"],
    )


@pytest.fixture
def stored_keys(s3, servers) -> Callable[[Clinic], list[str]]:
    """List the keys of a clinic's objects."""

    def look(clinic: Clinic) -> list[str]:
        listing = s3.list_objects_v2(Bucket=servers["s3_bucket"], Prefix=f"{clinic.id}/")
        return [found["Key"] for found in listing.get("Contents", [])]

    return look


@pytest.fixture
def lies_there(s3, servers) -> Callable[[Clinic], list[str]]:
    """List the keys of what a clinic has sent and no case was made of."""

    def look(clinic: Clinic) -> list[str]:
        listing = s3.list_objects_v2(Bucket=servers["s3_bucket"], Prefix=f"uploads/{clinic.id}/")
        return [found["Key"] for found in listing.get("Contents", [])]

    return look


@pytest.fixture
def rung(servers) -> Iterator[Callable[[], int]]:
    """Count the messages in the analyze queue, which is empty at first, once all that were asked for are there."""

    def count() -> int:
        await_rings()
        return broker.llen(ANALYZE_QUEUE)

    with redis.Redis.from_url(servers["broker_url"]) as broker:
        await_rings()  # an earlier test's
        broker.delete(ANALYZE_QUEUE)
        yield count


@pytest.fixture
def rows(database) -> Callable[..., list]:
    """Read whole tables by name, or all of them; that a key was used is no effect."""

    def read(*names: str) -> list:
        tables = [table for table in Table.metadata.sorted_tables if not names or table.name in names]
        with database.reading() as session:
            return [row for table in tables for row in session.execute(_effects(table))]

    return read


def _effects(table) -> Select:
    columns = [column for column in table.columns if column.name != "last_used_at"]
    return select(*columns).order_by(*table.primary_key)  # PostgreSQL moves a row that is updated


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{find_free_port()}"


@pytest.fixture
def dead_database_url(database_url, nowhere, tmp_path) -> str:
    """The URL of a database that cannot be reached, of either kind."""
    url = make_url(database_url)
    if url.drivername == "sqlite":
        return f"sqlite:///{tmp_path / 'missing' / 'test.sqlite3'}"
    return url.set(port=int(nowhere.rsplit(":")[-1])).render_as_string(hide_password=False)
