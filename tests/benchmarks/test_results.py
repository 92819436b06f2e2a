"""What is kept of earlier runs, and the command that adds to it."""

import json
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from tests.benchmarks.__main__ import PARTS, main
from tests.benchmarks.results import TARGETS, Target, add_part, assemble, read_results, write_results

MACHINE = {"cpu": "a processor", "cores": 2}
LATENCY = {"ratios": {"idle_latency_extra_ms": 40.0}, "case_ms": 90.0}
DRAIN = {"ratios": {"large_photos_over_limit": 0.9, "drained_over_limit": 0.8}}


def test_parts_that_are_not_run_again_keep_their_figures():
    earlier = assemble(MACHINE, {"latency": LATENCY, "drain": {"ratios": {"drained_over_limit": 0.1}}})
    results = add_part(earlier, MACHINE, "drain", DRAIN, quick=True)
    assert results["ratios"] == LATENCY["ratios"] | DRAIN["ratios"]
    assert results["parts"]["latency"] == LATENCY
    assert results["parts"]["drain"]["quick"] is True


def test_ratios_come_in_the_order_of_the_targets():
    found = list(assemble(MACHINE, {"latency": LATENCY, "drain": DRAIN})["ratios"])
    assert found == [name for name in TARGETS if name in found]
    assert len(found) == 3


def test_figures_of_another_machine_are_dropped():
    earlier = assemble({**MACHINE, "cores": 64}, {"latency": LATENCY})
    results = add_part(earlier, MACHINE, "drain", DRAIN, quick=False)
    assert results["ratios"] == DRAIN["ratios"]
    assert results["machine"] == MACHINE


def test_what_was_written_is_read_again_and_an_empty_folder_holds_no_part(tmp_path):
    folder = tmp_path / "results"
    assert read_results(folder)["parts"] == {}
    results = assemble(MACHINE, {"latency": LATENCY})
    write_results(folder, results)
    assert read_results(folder) == results


@pytest.mark.parametrize(
    ("value", "at_least", "at_most"), [(0.79, False, True), (0.8, True, True), (0.81, True, False)]
)
def test_a_target_is_met_from_its_bound_on(value, at_least, at_most):
    assert Target(0.8, at_least=True).is_met(value) is at_least
    assert Target(0.8).is_met(value) is at_most


def test_the_command_measures_only_the_parts_that_it_is_told_and_writes_results_and_picture(tmp_path, monkeypatch):
    asked = []
    drained = {"ratios": {"drained_over_limit": 0.5}, "photographs_per_s": {"full resolution": {"limit": 2.0}}}
    part = SimpleNamespace(measure=lambda quick: asked.append(quick) or drained)
    monkeypatch.setitem(sys.modules, "tests.benchmarks.drain", part)
    ran = CliRunner().invoke(main, ["--only", "drain", "--quick", "--out", str(tmp_path)], catch_exceptions=False)
    assert ran.exit_code == 0
    assert asked == [True]
    assert json.loads((tmp_path / "results.json").read_text())["ratios"] == drained["ratios"]
    assert (tmp_path / "benchmarks.png").stat().st_size > 10_000
    assert "drained_over_limit" in ran.output


def test_a_part_that_there_is_not_is_refused_with_the_names_of_those_there_are():
    ran = CliRunner().invoke(main, ["--only", "drain,speed"])
    assert ran.exit_code == 2
    assert all(name in ran.output for name in ("speed", *PARTS))
