"""A TCP proxy in front of a server on this machine, and the faults that it can inject."""

import asyncio
import ctypes
import random
import socket
import struct
import threading
import time
from asyncio import StreamReader, StreamWriter
from asyncio.trsock import TransportSocket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from deploy.embedded.program import find_free_port

T = TypeVar("T")

CHUNK_BYTES = 16 * 1024
WITH_A_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a connection that ends without its last bytes, as a broken one does."""
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # from Linux's asm-generic/socket.h
_RETURN_0 = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
DROP_ALL = struct.pack("HL", 1, ctypes.addressof(_RETURN_0))
"""A packet filter of one instruction (Linux's networking/filter.rst): what it drops is not even acknowledged."""


class Cut(Exception):
    """This connection breaks now."""


class Swallowed(Exception):
    """From here on, nothing more comes through in this direction."""


@dataclass
class Link:
    """What `LoseAnswers` saw of the request that is under way on one connection."""

    asked: bytes = b""
    patterns_seen: int = 0


class Manner:
    """Passes everything on."""

    async def treat(self, link: Link, chunk: bytes, is_answer: bool) -> None:
        """Return when the chunk may go on its way; raise `Cut` or `Swallowed` if it may not."""


@dataclass
class Swallow(Manner):
    """Accepts connections and all their data, and never answers, or never answers requests with `asked` in them."""

    asked: bytes = b""

    async def treat(self, link: Link, chunk: bytes, is_answer: bool) -> None:
        if not self.asked or (self.asked in chunk and not is_answer):
            raise Swallowed


@dataclass
class Delay(Manner):
    """Delays every chunk of at most `CHUNK_BYTES`."""

    delay_s: float

    async def treat(self, link: Link, chunk: bytes, is_answer: bool) -> None:
        await asyncio.sleep(self.delay_s)


@dataclass
class NarrowLine(Manner):
    """Hands answers on at `bytes_per_s`, which all connections share."""

    bytes_per_s: float
    free_at_s: float = 0.0

    async def treat(self, link: Link, chunk: bytes, is_answer: bool) -> None:
        if is_answer:
            now_s = time.monotonic()
            self.free_at_s = max(now_s, self.free_at_s) + len(chunk) / self.bytes_per_s
            await asyncio.sleep(self.free_at_s - now_s)


@dataclass
class CutAtRandom(Manner):
    """Breaks connections anywhere, about once in `once_in_bytes` bytes."""

    once_in_bytes: int
    dice: random.Random
    cuts: int = 0

    async def treat(self, link: Link, chunk: bytes, is_answer: bool) -> None:
        if self.dice.random() < len(chunk) / self.once_in_bytes:
            self.cuts += 1
            raise Cut


@dataclass
class LoseAnswers(Manner):
    """Passes a request on, waits for its answer, and then breaks the connection instead of handing it over.

    It is such a request if all of `patterns` went towards the server, in this order. Of `one_in` answers, one is lost.
    """

    patterns: tuple[bytes, ...]
    one_in: int
    hold_s: float = 0.0
    answers: int = 0
    lost: int = 0

    async def treat(self, link: Link, chunk: bytes, is_answer: bool) -> None:
        if not is_answer:
            self._look_for_patterns(link, chunk)
        elif link.patterns_seen == len(self.patterns):
            link.patterns_seen = 0
            self.answers += 1
            if self.answers % self.one_in == 0:
                self.lost += 1
                await asyncio.sleep(self.hold_s)
                raise Cut

    def _look_for_patterns(self, link: Link, chunk: bytes) -> None:
        link.asked += chunk
        while link.patterns_seen < len(self.patterns):
            _, found, after = link.asked.partition(self.patterns[link.patterns_seen])
            if not found:
                break
            link.asked, link.patterns_seen = after, link.patterns_seen + 1
        link.asked = link.asked[-max(map(len, self.patterns)) :]


class Proxy:
    """Passes connections to its own `port` of 127.0.0.1 on to another one, while the context lasts."""

    def __init__(self, port_behind: int):
        self.port, self._port_behind = find_free_port(), port_behind
        self.url = f"http://127.0.0.1:{self.port}"
        self._manner = Manner()
        self._links: dict[asyncio.Task, list[StreamWriter]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def behaving(self, manner: Manner) -> Iterator[None]:
        """Use these manners inside the block, also for connections that are already open."""
        self._manner, usual = manner, self._manner
        try:
            yield
        finally:
            self._manner = usual

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Break every connection and take none inside the block."""
        self._run(self._close())
        try:
            yield
        finally:
            self._run(self._listen())

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Drop every packet that comes from a client inside the block, as a partitioned network does."""
        ends = self._run(self._list_sockets())
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, DROP_ALL)
        try:
            yield
        finally:
            for end in ends:
                with suppress(OSError):  # this one was closed meanwhile
                    end.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)

    async def _list_sockets(self) -> list[TransportSocket]:
        """Return the one that listens and those of the clients' connections."""
        clients = [ends[0].get_extra_info("socket") for ends in self._links.values()]
        return [*self._server.sockets, *clients]

    async def _close(self) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _connect(self, reader: StreamReader, writer: StreamWriter) -> None:
        link, ends = Link(), [writer]
        self._links[asyncio.current_task()] = ends
        try:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._port_behind)
            ends.append(onward_writer)
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._carry(link, reader, onward_writer, is_answer=False))
                directions.create_task(self._carry(link, onward_reader, writer, is_answer=True))
        except* (Cut, OSError, asyncio.CancelledError):
            for end in ends:
                reset(end)
        del self._links[asyncio.current_task()]
        for end in ends:
            end.close()

    async def _carry(self, link: Link, source: StreamReader, sink: StreamWriter, is_answer: bool) -> None:
        try:
            while chunk := await source.read(CHUNK_BYTES):
                await self._manner.treat(link, chunk, is_answer)
                sink.write(chunk)
                await sink.drain()
        except Swallowed:
            while await source.read(CHUNK_BYTES):
                pass
            raise Cut from None
        sink.write_eof()


def reset(writer: StreamWriter) -> None:
    """End a connection as one that breaks ends."""
    if not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, WITH_A_RESET)
    writer.transport.abort()
