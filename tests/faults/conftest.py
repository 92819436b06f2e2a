"""The rig that every fault is tried on, and the table of what each did."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deploy.embedded.program import find_free_port
from deploy.embedded.valkey import valkey_program, valkey_url
from tests.faults.audit import Outcome
from tests.faults.keeper import Keeper
from tests.faults.rig import Rig
from tests.faults.sizes import BATCH_SIZE, FULL, LEASE_S, SHORT, Sizes
from tests.faults.table import to_text, write_document
from tests.journey.stack import RunningStack
from tests.servers.postgres import SURVIVES_A_KILL, postgres_program, postgres_url

DOCUMENT = Path(__file__).parents[2] / "deploy" / "docs" / "faults.md"
OUTCOMES = pytest.StashKey[list[Outcome]]()


@pytest.fixture(scope="session")
def sizes(request) -> Sizes:
    return FULL if request.config.getoption("--full") else SHORT


@pytest.fixture(scope="session")
def outcomes(request) -> list[Outcome]:
    return request.config.stash.setdefault(OUTCOMES, [])


@pytest.fixture(scope="package", params=["embedded", "postgresql"])
def rig(request, outcomes) -> Iterator[Rig]:
    """One of each flavour serves every test: what a test broke heals before it ends."""
    # Not pytest's folder: PostgreSQL, which does not run as root, must reach it.
    with tempfile.TemporaryDirectory(prefix="dermqueue-faults-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running_rig(request.param, folder, outcomes) as running:
            yield running


@contextmanager
def running_rig(flavour: str, folder: Path, outcomes: list[Outcome]) -> Iterator[Rig]:
    """Run the system on SQLite and its own broker, or on a PostgreSQL and a broker that it is only told by URL."""
    with ExitStack() as resources:
        variables = {"DERMQUEUE_LEASE_S": str(LEASE_S), "DERMQUEUE_BATCH_SIZE": str(BATCH_SIZE)}
        programs = []
        if flavour == "postgresql":
            sql_port, broker_port, password = find_free_port(), find_free_port(), secrets.token_urlsafe(16)
            programs = [
                postgres_program(folder, sql_port, SURVIVES_A_KILL),
                valkey_program(folder, broker_port, password),
            ]
            variables["DERMQUEUE_DATABASE_URL"] = postgres_url(sql_port)
            variables["DERMQUEUE_BROKER_URL"] = valkey_url(broker_port, password)
        servers = resources.enter_context(Keeper(folder, programs))
        stack = RunningStack(folder / "stack", variables)
        resources.callback(stack.stop)
        running = Rig(flavour, stack, servers, outcomes)
        resources.callback(running.close)
        running.await_ready("worker", "beat")
        yield running


def pytest_configure(config) -> None:
    config.addinivalue_line("markers", "only_on(flavour): there is no such fault on the other one")
    config.addinivalue_line("markers", "briefly_on(flavour): without --full, try this fault on this flavour alone")


def pytest_collection_modifyitems(config, items) -> None:
    names = ("only_on",) if config.getoption("--full") else ("only_on", "briefly_on")
    for item in items[:]:
        markers = [marker for name in names for marker in item.iter_markers(name)]
        if any(set(marker.args).isdisjoint(item.callspec.params.values()) for marker in markers):
            items.remove(item)


def pytest_terminal_summary(terminalreporter, config) -> None:
    if outcomes := config.stash.get(OUTCOMES, []):
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join(to_text(outcomes)))
        if config.getoption("--full"):
            write_document(DOCUMENT, outcomes)
