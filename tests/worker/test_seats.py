"""How many batches of one process run concurrently, and that a case that must be tried alone is alone."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from sqlalchemy import func, select, update

from shared.domain import State
from shared.tables import CaseRow
from tests import images
from tests.factories import add_photograph
from tests.worker.networks import TinyNetwork, tiny_model
from worker.triage import Seats

THREADS = 4
PHOTOGRAPH = images.encode(images.lesion(), "JPEG")


class Watching(TinyNetwork):
    """Notes something during every forward pass."""

    def __init__(self, note: Callable[[], object]):
        super().__init__()
        self._take_note, self.seen = note, []

    def look(self, pixels):
        self.seen.append(self._take_note())
        return super().look(pixels)


def together(call: Callable) -> Callable:
    """Return the call so that its first two callers return from it at the same time."""
    both, number = threading.Barrier(2, timeout=10), count()

    def meet(*arguments, **named):
        answer = call(*arguments, **named)
        if next(number) < 2:
            both.wait()
        return answer

    return meet


def test_while_a_case_is_tried_alone_no_other_thread_of_the_process_holds_a_lease(
    make_triage, database, store, clinic_id, monkeypatch
):
    def running() -> int:
        with database.reading() as session:
            return session.scalar(select(func.count()).where(CaseRow.state == State.RUNNING))

    for _ in range(4):
        add_photograph(database, store, clinic_id, PHOTOGRAPH)
    with database.writing() as session:
        session.execute(update(CaseRow).values(alone=True))
    network = Watching(running)
    triage = make_triage(tiny_model(network), worker_threads=2)
    monkeypatch.setattr(triage, "_claim", together(triage._claim))
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(triage.analyze_waiting) for _ in range(THREADS)]:
            done.result()
    assert network.seen == [1, 1, 1, 1]


def test_a_holder_of_every_seat_runs_alone():
    seats, neighbours, most = Seats(2), [], []

    def work(everything: bool) -> None:
        with seats.taken(everything):
            neighbours.append(everything)
            most.append(list(neighbours))
            threading.Event().wait(0.005)
            neighbours.remove(everything)

    threads = [threading.Thread(target=work, args=(number % 3 == 0,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 24
    assert all(len(seen) == 1 for seen in most if True in seen)
    assert max(len(seen) for seen in most) == 2
