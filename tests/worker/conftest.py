"""A worker without its process: the real database and S3 server, a tiny network."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from shared.database import read_clock
from shared.dispatch import Doorbell, make_celery
from shared.settings import Settings
from shared.storage import ObjectStore, open_object_store
from tests.factories import add_clinic
from tests.faults.network.proxy import Proxy
from tests.worker.networks import tiny_model
from worker.analysis import Analyst
from worker.main import announce_model
from worker.model import Model
from worker.triage import Triage


@pytest.fixture
def clinic_id(database) -> UUID:
    return add_clinic(database)


@pytest.fixture
def make_triage(settings, database, store) -> Iterator[Callable[..., Triage]]:
    """Return a function that makes a triage with a given model; wait for its threads at the end."""
    with ThreadPoolExecutor(4) as pool:

        def make(model: Model | None = None, store=store, doorbell=None, database=database, **changes) -> Triage:
            model = model or tiny_model()
            with database.writing() as session:
                announce_model(model, session, read_clock(session))
            analyst = Analyst(model, store, model.manifest.operating_point(), pool)
            doorbell = doorbell or Doorbell(make_celery(settings))
            return Triage(database, store, doorbell, analyst, settings.model_copy(update=changes))

        yield make


class CountingDoorbell:
    """Counts its rings instead of sending them."""

    def __init__(self):
        self.rings = 0

    def ring(self, times: int = 1) -> None:
        self.rings += times


@pytest.fixture
def proxied(settings, monkeypatch) -> Iterator[tuple[Proxy, ObjectStore]]:
    """The real store behind a network that can swallow requests."""
    monkeypatch.setattr("shared.storage._READ_TIMEOUT_S", 1.5)
    monkeypatch.setattr("shared.storage._PAUSE_AFTER_TIMEOUT_S", 0.2)
    with Proxy(urlsplit(settings.s3_endpoint_url).port) as network:
        store = open_object_store(Settings.model_validate(settings.model_dump() | {"s3_endpoint_url": network.url}))
        yield network, store
        store._client.close()
