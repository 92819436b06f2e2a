"""Clinics that send photographs while something breaks, and record the answers."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import UUID

from deploy.client import Client, Connection, Refused
from deploy.commands.demo import SAMPLES

PHOTOGRAPHS = tuple(sorted(SAMPLES.glob("*.jpg")))


@dataclass(frozen=True)
class Clinic:
    """A clinic that belongs to this load only, and where it sends its photographs."""

    id: UUID
    connection: Connection


@dataclass
class Load:
    """Submits in the background inside the context; leaving it waits until every submission was answered.

    Each photograph has a reference of its own, so that a case that exists twice shows. `accepted` is what the API
    promised: reference to case id. `refused` is what a patient client gave up on: reference to the problem's code.
    `endings` are those that each case was seen to have; two of them are one too many.
    """

    clinics: Sequence[Clinic]
    count: int
    photographs: Sequence[Path]
    connections: int
    accepted: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    endings: dict[str, set[tuple[str, str | None]]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._resources = ExitStack()
        clients = [Client(clinic.connection) for clinic in self.clinics]
        for client in clients:
            self._resources.callback(client._http.close)
        pool = self._resources.enter_context(ThreadPoolExecutor(self.connections, thread_name_prefix="clinic"))
        self._answers = [pool.submit(self._send, clients[n % len(clients)], n) for n in range(self.count)]
        return self

    def __exit__(self, *_) -> None:
        self._resources.close()
        for answer in self._answers:
            answer.result()

    def _send(self, client: Client, number: int) -> None:
        reference = f"photograph {number}"
        try:
            case = client.submit(self.photographs[number % len(self.photographs)], reference=reference)
        except Refused as problem:
            self.refused[reference] = problem.code
        else:
            self.accepted[reference] = case["id"]
