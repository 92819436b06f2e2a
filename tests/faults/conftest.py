"""The rig that every fault is tried on, and the table of what each did."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.audit import Outcome
from tests.faults.rig import Rig, running_rig
from tests.faults.sizes import FULL, SHORT, Sizes
from tests.faults.table import to_text, write_document

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
    """One rig of each flavour serves every test: what a test breaks is healed before it ends."""
    # Not pytest's folder: PostgreSQL, which does not run as root, must reach it.
    with tempfile.TemporaryDirectory(prefix="dermqueue-faults-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running_rig(request.param, folder, outcomes) as running:
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
