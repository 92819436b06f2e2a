"""A campaign of broken files: each takes the path in a process with limits; what is amiss is counted.

File number N of a seed is the same in every run, as long as the libraries encode alike.
"""

import multiprocessing
import random
import re
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tests.broken_images import broken_images
from tests.fuzz.mutators import mutate
from tests.fuzz.path import put_through
from tests.images import good_photographs

# Where files that did harm are kept.
FINDINGS = Path("fuzz-findings")
CPU_LIMIT_S = 5
ADDRESS_SPACE_BYTES = 1_500 * 2**20
# The largest photographs that are taken raise a process's memory by so much.
GROWTH_LIMIT_KB = 400 * 2**10
# Without a word for so long, a process hangs in a way that costs no CPU time.
SILENCE_S = 120


@dataclass(frozen=True)
class Tried:
    """What became of one file. finding: None, or what is amiss. peak_kb: of its process while it was tried."""

    number: int
    fate: str
    finding: str | None
    cpu_s: float = 0.0
    peak_kb: int = 0


@dataclass
class Tally:
    """What a campaign counted."""

    files: int = 0
    fates: Counter = field(default_factory=Counter)
    findings: list[Tried] = field(default_factory=list)
    slowest: Tried | None = None
    peak_kb: int = 0

    def add(self, tried: Tried) -> None:
        self.files += 1
        self.fates[tried.fate.split(" ")[0]] += 1
        self.peak_kb = max(self.peak_kb, tried.peak_kb)
        if self.slowest is None or tried.cpu_s > self.slowest.cpu_s:
            self.slowest = tried
        if tried.finding:
            self.findings.append(tried)


@cache
def pool() -> list[bytes]:
    """Good photographs and broken files, so that either is drawn as often as the other."""
    good = [data for data, _ in good_photographs().values()]
    broken = [data for data, _ in broken_images().values()]
    return good * (len(broken) // len(good)) + broken


def make_file(seed: int | str, number: int) -> bytes:
    """Return the broken file of that number."""
    generator = random.Random(f"{seed}:{number}")
    return mutate(generator, generator.choice(pool()), generator.choice(pool()))


@dataclass(frozen=True)
class Campaign:
    """What is tried. It is sent to child processes, so both functions must be importable."""

    seed: int | str
    files: int
    processes: int = 2
    cpu_limit_s: int = CPU_LIMIT_S
    make: Callable[[int | str, int], bytes] = make_file
    path: Callable[[bytes], str] = put_through


def run_campaign(campaign: Campaign, report: Callable[[Tally], None] = lambda tally: None) -> Tally:
    """Put each file through the path; `report` is called after each."""
    tally, step = Tally(), campaign.processes
    shares = [_Share(campaign, range(first, campaign.files, step)) for first in range(step)]
    while waiting := {share.connection: share for share in shares if not share.finished}:
        ready = wait(waiting, timeout=SILENCE_S)
        for share in [waiting[connection] for connection in ready] or waiting.values():
            for tried in share.read() if ready else share.give_up():
                tally.add(tried)
                report(tally)
    return tally


class _Share:
    """Every nth file, in a child process that is started anew when a file has ended it."""

    def __init__(self, campaign: Campaign, numbers: range):
        self._campaign, self._numbers, self.finished = campaign, numbers, False
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, childs_end = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_try_files, args=(childs_end, self._campaign, self._numbers), daemon=True
        )
        self._process.start()
        childs_end.close()

    def read(self) -> Iterator[Tried]:
        """Yield what the child says next; where it died, what of."""
        try:
            tried = self.connection.recv()
        except EOFError:
            yield from self._bury()
            return
        self._numbers = self._numbers[1:]
        yield tried

    def give_up(self) -> Iterator[Tried]:
        """End a child that neither works nor speaks."""
        self._process.kill()
        yield from self._bury()

    def _bury(self) -> Iterator[Tried]:
        self._process.join()
        self.connection.close()
        if not self._numbers:
            self.finished = True
            return
        code = self._process.exitcode
        ends = {
            -signal.SIGPROF: f"hang: over {self._campaign.cpu_limit_s} s",
            -signal.SIGKILL: "hang: killed in silence",
        }
        yield Tried(self._numbers[0], "none", ends.get(code, f"crash: exit code {code}"))
        self._numbers = self._numbers[1:]
        self._start()


def _try_files(connection: Connection, campaign: Campaign, numbers: range) -> None:
    """Try files one after the other; a child's whole life."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, even in the midst of a decoder
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    for number in numbers:
        data = campaign.make(campaign.seed, number)
        _forget_peak()
        before_kb, started = _peak_kb(), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, campaign.cpu_limit_s)
        fate, finding = _try(campaign.path, data)
        signal.setitimer(signal.ITIMER_PROF, 0)
        peak_kb = _peak_kb()
        if not finding and peak_kb - before_kb > GROWTH_LIMIT_KB:
            finding = f"memory: {(peak_kb - before_kb) // 2**10} MB"
        connection.send(Tried(number, fate, finding, time.process_time() - started, peak_kb))


def _try(path: Callable[[bytes], str], data: bytes) -> tuple[str, str | None]:
    try:
        return path(data), None
    except MemoryError:
        return "none", "memory: over the limit"
    except Exception as error:  # noqa: BLE001 - anything but a refusal is what is looked for
        return "none", f"unexpected: {type(error).__name__}: {error}"


def _forget_peak() -> None:
    """Set this process's peak of resident memory back to what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_kb() -> int:
    # Not `getrusage`: that one's peak begins with the parent's.
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
