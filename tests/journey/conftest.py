"""One running stack per module of the journey's tests."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import copied_database
from tests.journey.stack import RunningStack, running_stack


@pytest.fixture(scope="module", params=["embedded", "postgresql"])
def stack(request, tmp_path_factory) -> Iterator[RunningStack]:
    """The stack on SQLite and its own broker; and on a PostgreSQL and a broker that it is only told by URL."""
    folder = tmp_path_factory.mktemp("stack") / "data"
    with ExitStack() as resources:
        variables = {}
        if request.param == "postgresql":
            template = request.getfixturevalue("upgraded_postgres")
            variables["DERMQUEUE_DATABASE_URL"] = resources.enter_context(copied_database(template))
            variables["DERMQUEUE_BROKER_URL"] = request.getfixturevalue("servers")["broker_url"]
        yield resources.enter_context(running_stack(folder, variables))
