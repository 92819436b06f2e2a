"""The worker processes, as they report themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from shared.service_tables import WorkerRow
from shared.store.upsert import upsert
from shared.tables import ModelRow

HEARTBEAT_S = 10.0
_ALIVE_FOR = timedelta(seconds=3 * HEARTBEAT_S)
_KEPT_FOR = timedelta(days=1)


@dataclass(frozen=True)
class Worker:
    """A worker. `images_per_minute` is measured while it has work; None: not yet."""

    id: UUID
    name: str
    device: str
    batch_size: int
    model_digest: str
    images_per_minute: float | None


@dataclass(frozen=True)
class KnownWorker:
    """A worker seen within the last day. `alive`: seen within three heartbeats, and not shut down."""

    worker: Worker
    model_name: str
    model_version: str
    started_at: datetime
    seen_at: datetime
    alive: bool


def note_worker(session: Session, worker: Worker, now: datetime) -> None:
    """Record a worker's heartbeat, and forget workers not seen for a day."""
    row = vars(worker) | {"started_at": now, "seen_at": now}
    upsert(session, WorkerRow, row, changed=["images_per_minute", "seen_at"])
    session.execute(delete(WorkerRow).where(WorkerRow.seen_at < now - _KEPT_FOR))


def note_worker_stopped(session: Session, worker_id: UUID, now: datetime) -> None:
    """Record that a worker has shut down properly."""
    session.execute(update(WorkerRow).where(WorkerRow.id == worker_id).values(seen_at=now, stopped_at=now))


def list_workers(session: Session, now: datetime) -> Sequence[KnownWorker]:
    """Return the workers of the last day, by name."""
    rows = session.execute(
        select(WorkerRow, ModelRow.manifest)
        .join(ModelRow, ModelRow.digest == WorkerRow.model_digest)
        .where(WorkerRow.seen_at >= now - _KEPT_FOR)
        .order_by(WorkerRow.name, WorkerRow.started_at)
    )
    return [
        KnownWorker(
            Worker(row.id, row.name, row.device, row.batch_size, row.model_digest, row.images_per_minute),
            manifest["name"],
            manifest["version"],
            row.started_at,
            row.seen_at,
            alive=row.stopped_at is None and row.seen_at > now - _ALIVE_FOR,
        )
        for row, manifest in rows
    ]
