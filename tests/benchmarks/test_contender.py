"""Rounds, piles and ratios, with contenders that only say what was asked of them."""

import io
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from deploy.embedded.supervisor import StartFailed
from tests.benchmarks.contender import WARM_UP, Contender, compete
from tests.benchmarks.drain import find_ratios
from tests.benchmarks.memory import Sample, find_growth
from tests.benchmarks.piles import FULL, repeat, resized

PILE = [Path(str(number)) for number in range(20)]


def noting(name: str, seconds: float, told: list) -> Contender:
    @contextmanager
    def running():
        told.append((name, "starts"))
        yield lambda photographs: told.append((name, len(photographs))) or seconds
        told.append((name, "stops"))

    return Contender(name, running)


def test_contenders_take_turns_each_started_and_warmed_up_anew_and_stopped_before_the_next():
    told = []
    entries = [(noting(name, seconds, told), {"a pile": PILE}) for name, seconds in (("fast", 2.0), ("slow", 5.0))]
    assert compete(entries, rounds=2).rates == {"a pile": {"fast": [10.0, 10.0], "slow": [4.0, 4.0]}}
    turn = ["starts", WARM_UP, len(PILE), "stops"]
    assert told == 2 * [(name, step) for name in ("fast", "slow") for step in turn]


def test_each_contender_drains_its_own_piles():
    one, other = noting("one", 1.0, []), noting("other", 1.0, [])
    found = compete([(one, {"small": PILE, "large": PILE[:4]}), (other, {"small": PILE})], rounds=1).rates
    assert found == {"small": {"one": [20.0], "other": [20.0]}, "large": {"one": [4.0]}}


def refusing(is_ours: bool) -> Contender:
    @contextmanager
    def running():
        raise StartFailed("program_not_started", "it has no legs")
        yield

    return Contender("a peer", running, is_ours)


def test_of_a_peer_that_does_not_start_it_is_said_and_the_others_go_on():
    found = compete([(refusing(is_ours=False), {"pile": PILE}), (noting("one", 1.0, []), {"pile": PILE})], rounds=2)
    assert found.not_started == {"a peer": "it has no legs"}
    assert found.rates == {"pile": {"one": [20.0, 20.0]}}


def test_what_is_ours_has_to_start():
    with pytest.raises(StartFailed):
        compete([(refusing(is_ours=True), {"pile": PILE})], rounds=1)


RATES = {
    "full resolution": {
        "limit": 40.0,
        "DermQueue, embedded": 30.0,
        "DermQueue, postgresql": 20.0,
        "DermQueue, embedded, 2 workers": 35.0,
    },
    "24 megapixels": {"limit": 10.0, "DermQueue, embedded": 6.0, "DermQueue, postgresql": 8.0},
}


def test_the_slower_of_our_stacks_with_one_worker_is_held_against_limit_and_best_peer():
    peers = {"a peer": 2.0, "another peer": 4.0}
    rates = RATES | {"full resolution": RATES["full resolution"] | peers}
    assert find_ratios(rates) == {
        "drained_over_limit": 0.5,
        "drained_over_best_peer": 5.0,
        "large_photos_over_limit": 0.6,
    }


def test_without_a_peer_there_is_no_ratio_to_the_best_one():
    assert set(find_ratios(RATES)) == {"drained_over_limit", "large_photos_over_limit"}


def test_memory_grows_by_the_peak_over_that_of_the_first_500_cases():
    samples = [Sample(done, {"worker": mib}) for done, mib in ((0, 100.0), (500, 200.0), (501, 250.0), (1000, 240.0))]
    assert find_growth(samples) == pytest.approx(1.25)


def test_a_pile_repeats_the_samples_and_copies_have_the_size_asked_for(tmp_path):
    copies = resized(tmp_path / "copies", (32, 16))
    assert [copy.name for copy in copies] == [sample.name for sample in FULL]
    assert {Image.open(io.BytesIO(copy.read_bytes())).size for copy in copies} == {(32, 16)}
    assert repeat(copies, len(copies) + 1) == (*copies, copies[0])
