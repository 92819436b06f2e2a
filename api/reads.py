"""A cache of reads that are already in the audit trail."""

from collections.abc import Sequence
from uuid import UUID

from shared.domain import Caller

_REMEMBERED = 50_000


class KnownReads:
    """Spares polling clients a query of the trail: entries never go away, so each needs to be seen only once."""

    def __init__(self, remembered: int = _REMEMBERED):
        self._remembered = remembered
        self._known: dict[tuple[UUID, UUID], None] = {}

    def unknown(self, reader: Caller, case_ids: Sequence[UUID]) -> Sequence[UUID]:
        """Return the cases not known to have been read with this key."""
        return [case_id for case_id in case_ids if (reader.key_id, case_id) not in self._known]

    def note(self, reader: Caller, case_ids: Sequence[UUID]) -> None:
        """Remember reads that are committed to the trail; when there would be too many, forget all earlier ones."""
        if len(self._known) + len(case_ids) > self._remembered:
            self._known = {}
        self._known.update(dict.fromkeys((reader.key_id, case_id) for case_id in case_ids))
