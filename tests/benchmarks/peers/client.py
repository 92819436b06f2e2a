"""Feeds a peer so that it never waits for work, and looks at what it answers."""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from celery import Celery
from celery.result import ResultSet

from shared.domain import CLASSES

Drain = Callable[[Sequence[Path]], float]

IN_FLIGHT = 64
"""Requests: two batches for each of two workers."""
LONGEST_S = 3600
_PNG = b"\x89PNG\r\n\x1a\n"


class AnswerIncomplete(AssertionError):
    """A peer left out the class or the overlay."""


def drain_server(url: str, photographs: Sequence[Path]) -> float:
    """Send every photograph by itself, many at a time; return the seconds until the last was answered."""
    limits = httpx.Limits(max_connections=IN_FLIGHT)
    with httpx.Client(limits=limits, timeout=LONGEST_S) as client, ThreadPoolExecutor(IN_FLIGHT) as pool:

        def ask(photograph: Path) -> Mapping[str, str]:
            answer = client.post(url, files={"photographs": (photograph.name, photograph.read_bytes(), "image/jpeg")})
            found = answer.raise_for_status().json()
            return found[0] if isinstance(found, list) else found

        begun_s = time.perf_counter()
        answers = list(pool.map(ask, photographs))
        taken_s = time.perf_counter() - begun_s
    check_answers(answers, len(photographs))
    return taken_s


def drain_queue(broker: Celery, photographs: Sequence[Path]) -> float:
    """Queue a task for every photograph at once; return the seconds until the last result came back."""
    begun_s = time.perf_counter()
    tasks = ResultSet([broker.send_task("explain", [str(photograph)]) for photograph in photographs])
    answers = tasks.join(timeout=LONGEST_S)
    taken_s = time.perf_counter() - begun_s
    tasks.forget()
    check_answers(answers, len(photographs))
    return taken_s


def check_answers(answers: Sequence[Mapping[str, str]], count: int) -> None:
    """Make sure that this many photographs were classified and explained.

    Raises:
        AnswerIncomplete: one has no class of ours, or no PNG.
    """
    complete = sum(is_complete(answer) for answer in answers)
    if complete != count:
        raise AnswerIncomplete(f"of {count} photographs, {complete} have a class and an overlay")


def is_complete(answer: Mapping[str, str]) -> bool:
    overlay = base64.b64decode(answer.get("overlay", ""))
    return answer.get("class") in CLASSES and overlay.startswith(_PNG)
