"""The SQL database restarted and locked, and processes that die in the middle of a commit."""

import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest

from shared.domain import State
from tests.faults import dying
from tests.faults.audit import until_first_end
from tests.waiting import wait_until


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize(("how", "fault"), [(signal.SIGINT, "stopped"), (signal.SIGKILL, "killed")])
def test_a_postgresql_that_is_restarted_costs_no_case(rig, sizes, how, fault):
    with rig.frozen("worker"), rig.submitting(sizes.cases) as load:
        wait_until(lambda: rig.observe(load))
        with rig.away("postgres", how=how):
            pass
    rig.await_work()
    with rig.away("postgres", how=how):
        pass
    recovery = until_first_end(datetime.now(UTC))
    outcome = rig.settle(load, f"PostgreSQL {fault}, then started again", times=2, recovery=recovery)
    assert load.refused == {}
    assert outcome.failed == 0
    assert outcome.recovery_s <= sizes.recovery_s


@pytest.mark.only_on("embedded")
def test_a_database_that_somebody_else_locks_holds_cases_up_and_loses_none(rig, sizes):
    with rig.submitting(sizes.cases) as load:
        rig.await_work()
        with closing(sqlite3.connect(rig.database.engine.url.database)) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            time.sleep(sizes.away_s)
            somebody.rollback()
        healed_at = datetime.now(UTC)
    outcome = rig.settle(load, "SQLite locked by another process", recovery=until_first_end(healed_at))
    assert outcome.failed == 0
    assert outcome.recovery_s <= sizes.recovery_s


def test_a_process_that_dies_in_the_middle_of_a_commit_leaves_it_done_or_undone(rig, sizes, tmp_path):
    deaths = {name: tmp_path / name for name in ("dying api", "dying worker")}
    api, worker = (rig.further(name, dying.__file__, str(sizes.deaths), str(file)) for name, file in deaths.items())
    with rig.beside(api, worker):
        with rig.frozen("worker"):
            with rig.submitting(sizes.cases, urls=[f"http://127.0.0.1:{api.argv[-1]}"]) as load:
                pass
            wait_until(lambda: all(dying.count(file) == sizes.deaths for file in deaths.values()), timeout_s=600)
        rig.settle(load, "API and worker die in commits", times=2 * sizes.deaths)
    traces = rig.observe(load)
    assert load.refused == {}
    assert {trace.error_code for trace in traces if trace.state is State.FAILED} <= {"analysis_interrupted"}
