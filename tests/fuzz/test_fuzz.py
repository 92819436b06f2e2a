"""The short form of `make fuzz`, and proof that a campaign notices what it looks for."""

import os
import signal

import pytest

from shared.errors import ImageRejected
from tests.fuzz.campaign import GROWTH_LIMIT_KB, Campaign, make_file, run_campaign


def test_no_broken_file_crashes_hangs_or_bloats_the_path():
    tally = run_campaign(Campaign(seed=0, files=600))
    assert tally.findings == []
    assert tally.files == 600
    assert min(tally.fates[fate] for fate in ("intake", "decoding", "taken")) > 60


def _nothing(seed: int, number: int) -> bytes:
    return b""


def _crash(data: bytes) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""


def _hang(data: bytes) -> str:
    while True:
        pass


def _demand(data: bytes) -> str:
    return str(len(bytes(2**31)))


def _grow(data: bytes) -> str:
    return str(len(b"1" * (2**10 * (GROWTH_LIMIT_KB + 2**14))))


def _fail(data: bytes) -> str:
    raise KeyError("no refusal")


def _refuse(data: bytes) -> str:
    raise ImageRejected("image_damaged", "The path itself turns refusals into fates.")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (_crash, "crash: exit code -11"),
        (_hang, "hang: over 1 s"),
        (_demand, "memory: over the limit"),
        (_grow, "memory: 4"),
        (_fail, "unexpected: KeyError"),
        (_refuse, "unexpected: ImageRejected"),
    ],
)
def test_a_campaign_notices_what_goes_wrong_and_goes_on(path, kind):
    tally = run_campaign(Campaign(seed=0, files=2, processes=1, cpu_limit_s=1, make=_nothing, path=path))
    assert [tried.number for tried in tally.findings] == [0, 1]
    assert all(tried.finding.startswith(kind) for tried in tally.findings)


def test_a_file_can_be_made_again_from_its_number():
    assert make_file(3, 14) == make_file(3, 14)
    assert make_file(3, 14) != make_file(3, 15)
    assert make_file(3, 14) != make_file(4, 14)
