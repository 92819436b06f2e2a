"""The route for the queue in figures; the command line shows the same."""

from datetime import timedelta

from flask import Response
from sqlalchemy.orm import Session

from api.admin_schemas import ClinicLoadOut, HourOut, QueueOut, QueueQuery, WorkerOut
from api.answers import answer
from api.auth import allow
from api.blueprints import guarded_blueprint
from api.problems import problem_responses
from api.services import services
from shared.database import read_clock
from shared.domain import Role, workers_needed
from shared.store import overview, workers

blueprint = guarded_blueprint("queue", "/v1/admin/queue", "Waiting and running cases, and the workers.")


@blueprint.get("", responses={200: QueueOut, **problem_responses(400)})
@allow(Role.ADMIN)
def read_queue(query: QueueQuery) -> Response:
    """Read the waiting and running cases, the last hours' throughput, and how many workers the backlog needs."""
    with services().database.reading() as session:
        return answer(describe_queue(session, query), 200)


def describe_queue(session: Session, query: QueueQuery) -> QueueOut:
    """Return the queue in figures."""
    now = read_clock(session)
    loads, known = overview.list_loads(session, now), workers.list_workers(session, now)
    rates = [(worker.alive, worker.worker.images_per_minute) for worker in known if worker.worker.images_per_minute]
    measured = [rate for alive, rate in rates if alive] or [rate for _, rate in rates]
    arriving = overview.count_arrivals(session, now - timedelta(hours=1)) / 60
    waiting = sum(load.waiting for load in loads)
    mean_rate = sum(measured) / len(measured) if measured else None
    return QueueOut(
        waiting=waiting,
        running=sum(load.running for load in loads),
        oldest=min((load.oldest for load in loads if load.oldest), default=None),
        arriving_per_minute=arriving,
        clear_in_minutes=query.minutes,
        workers_needed=workers_needed(waiting, arriving, query.minutes, mean_rate),
        clinics=[ClinicLoadOut.of(load) for load in loads],
        hours=[HourOut.of(hour) for hour in overview.list_hours(session, now, query.hours)],
        workers=[WorkerOut.of(worker) for worker in known],
    )
