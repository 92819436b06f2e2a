"""What the tests of commands share: checks of how a command ended, and data for it to find."""

import json
from uuid import UUID

from click.testing import Result

from shared.database import read_clock
from shared.domain import Problem, State
from shared.store import queue
from tests.factories import add_case

NAME = "Clinic North"


def printed(done: Result) -> list[str]:
    assert (done.exit_code, done.exception) == (0, None), done.output
    return done.stdout.splitlines()


def refused(done: Result, exit_code: int = 1) -> str:
    assert done.exit_code == exit_code
    assert isinstance(done.exception, SystemExit)  # a sentence, no traceback
    return done.stderr


def as_json(done: Result) -> dict:
    (line,) = printed(done)
    return json.loads(line)


def fail_a_case(database, clinic_id: UUID, detail: str = "It never ended.") -> UUID:
    case = add_case(database, clinic_id)
    with database.writing() as session:
        now = read_clock(session)
        (lease,) = queue.claim_cases(session, 1, 60, now)
        assert queue.record_problem(session, lease, Problem(State.FAILED, "analysis_failed", detail), now)
    return case.id
