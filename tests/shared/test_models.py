"""The bundles that workers announce."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select

from shared.database import Database
from shared.errors import Unavailable
from shared.store import models
from shared.tables import ModelRow
from tests.shared.steps import at


def activate(database: Database, digest: str, second: float, card: str = "# Card") -> None:
    with database.writing() as session:
        models.activate_model(session, digest, {"name": digest}, card, at(second))


def current(database: Database) -> tuple[str, str]:
    with database.reading() as session:
        row = models.read_current_model(session)
        return row.digest, row.card


def test_before_any_worker_there_is_no_model(database):
    with pytest.raises(Unavailable, match="model_not_loaded"):
        current(database)


def test_the_current_model_is_the_one_that_was_loaded_last_with_the_card_that_it_has_now(database):
    activate(database, "a", 1)
    activate(database, "b", 2)
    assert current(database) == ("b", "# Card")
    activate(database, "a", 3, "# Corrected")
    assert current(database) == ("a", "# Corrected")


def test_workers_that_start_together_with_a_new_bundle_all_start(database):
    together = Barrier(4)

    def start(worker: int) -> None:
        for number in range(10):
            together.wait(20)
            activate(database, f"bundle {number}", worker)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(start, range(4)))
    with database.reading() as session:
        assert len(session.scalars(select(ModelRow.digest)).all()) == 10
