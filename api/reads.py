"""Which reads stand in the audit trail already, as far as this process knows."""

from collections.abc import Sequence
from uuid import UUID

from shared.domain import Caller

_REMEMBERED = 50_000


class KnownReads:
    """Saves whoever polls the look into the trail: what stands there stays there, so it needs to be seen only once."""

    def __init__(self, remembered: int = _REMEMBERED):
        self._remembered = remembered
        self._known: dict[tuple[UUID, UUID], None] = {}

    def unknown(self, reader: Caller, case_ids: Sequence[UUID]) -> Sequence[UUID]:
        """Return those of the cases of which this process does not know that this key has read them."""
        return [case_id for case_id in case_ids if (reader.key_id, case_id) not in self._known]

    def note(self, reader: Caller, case_ids: Sequence[UUID]) -> None:
        """Remember reads that are committed to the trail, and forget all that was known when that becomes too much."""
        if len(self._known) + len(case_ids) > self._remembered:
            self._known = {}
        self._known.update(dict.fromkeys((reader.key_id, case_id) for case_id in case_ids))
