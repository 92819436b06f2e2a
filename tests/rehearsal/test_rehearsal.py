"""The rehearsal itself, in its shortest form: a day of seconds, from no worker to some and back to none."""

import tempfile
from pathlib import Path

import pytest

from tests.rehearsal.day import HOURLY, draw_arrivals, load_at
from tests.rehearsal.rehearse import Plan, rehearse
from tests.rehearsal.report import draw, to_rows, write_document


def test_arrivals_follow_the_curve_and_are_the_same_for_the_same_seed():
    day_s, peak_per_s = 24_000.0, 5.0
    arrivals = draw_arrivals(day_s, peak_per_s, seed=1)
    expected = day_s * peak_per_s * sum(HOURLY) / 24 / 100
    assert len(arrivals) == pytest.approx(expected, rel=0.02)
    assert sum(10_000 < at_s < 11_000 for at_s in arrivals) == pytest.approx(5000, rel=0.06)
    assert arrivals == draw_arrivals(day_s, peak_per_s, seed=1) != draw_arrivals(day_s, peak_per_s, seed=2)


def test_the_curve_meets_itself_at_midnight():
    assert load_at(0) == pytest.approx(load_at(24)) == pytest.approx((HOURLY[0] + HOURLY[-1]) / 200)


def test_a_day_begins_and_ends_without_workers_and_every_case_succeeds(tmp_path):
    # Not pytest's folder: PostgreSQL, which does not run as root, must reach it.
    with tempfile.TemporaryDirectory(prefix="dermqueue-rehearsal-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        day = rehearse(Plan(day_s=12, peak_per_s=4, photograph_s=0.2), folder, lambda look: None)
    assert (day.looks[0].workers, day.looks[-1].workers) == (0, 0)
    assert max(look.ready for look in day.looks) > 0
    assert len(day.cases) == len(draw_arrivals(12, 4, seed=1)) > 0
    document = tmp_path / "scaling.md"
    document.write_text("before <!-- rehearsal -->old<!-- end of rehearsal --> after")
    write_document(document, to_rows(day))
    draw(day, tmp_path / "rehearsal.png")
    assert (tmp_path / "rehearsal.png").stat().st_size > 10_000
    assert "| cases | " in document.read_text()
    assert "old" not in document.read_text()
