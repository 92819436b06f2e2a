"""The bundles that workers have loaded."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import Unavailable
from shared.tables import ModelRow


@dataclass(frozen=True)
class LoadedModel:
    """A bundle that a worker has loaded."""

    digest: str
    manifest: dict
    card: str


def activate_model(session: Session, digest: str, manifest: dict, card: str, now: datetime) -> None:
    """Note that a worker has loaded this bundle; it is the current one from now on."""
    row = session.get(ModelRow, digest)
    if row is None:
        session.add(ModelRow(digest=digest, manifest=manifest, card=card, activated_at=now))
    else:
        row.activated_at = now
    session.flush()


def read_current_model(session: Session) -> LoadedModel:
    """Return the bundle that was activated last.

    Raises:
        Unavailable: `model_not_loaded`: no worker has ever loaded one.
    """
    row = session.scalar(select(ModelRow).order_by(ModelRow.activated_at.desc()).limit(1))
    if row is None:
        raise Unavailable(
            "model_not_loaded", "No worker has loaded a model yet; cases wait in the queue until one does."
        )
    return LoadedModel(row.digest, row.manifest, row.card)
