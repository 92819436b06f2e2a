"""The commands, in this process and on the suite's servers."""

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from deploy import commands
from deploy.cli import main
from deploy.commands import oversight
from shared.database import open_database
from shared.dispatch import make_celery
from tests.deploy.commands import NAME
from tests.factories import add_clinic


@pytest.fixture
def dermqueue(settings, tmp_path, monkeypatch) -> Iterator[Callable[..., Result]]:
    """Run a command, with further variables in `env`; what it left open, as a process may, is closed at the end."""
    names = ("database_url", "broker_url", "s3_bucket", "s3_endpoint_url", "s3_access_key")
    variables = {f"DERMQUEUE_{name.upper()}": str(getattr(settings, name)) for name in names}
    variables["DERMQUEUE_S3_SECRET_KEY"] = settings.s3_secret_key.get_secret_value()
    opened: list[Callable[[], None]] = []

    def open_and_remember(url: str):
        database = open_database(url)
        opened.append(database.engine.dispose)
        return database

    def make_and_remember(settings):
        celery = make_celery(settings)
        opened.append(celery.close)
        return celery

    monkeypatch.setattr(commands, "open_database", open_and_remember)
    monkeypatch.setattr(oversight, "make_celery", make_and_remember)
    yield lambda *arguments, env=None, **options: CliRunner().invoke(
        main, [*arguments, "--data-dir", str(tmp_path)], env=variables | (env or {}), **options
    )
    for close in opened:
        close()


@pytest.fixture
def clinic_id(database) -> UUID:
    return add_clinic(database, NAME)
