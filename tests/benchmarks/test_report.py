"""The tables and the picture, and the page that must say what the results file says."""

from tests.benchmarks.__main__ import DOCS
from tests.benchmarks.report import draw, rate_rows, ratio_rows, to_markdown, write_document
from tests.benchmarks.results import RESULTS, TARGETS, assemble, read_results

WHEN = {"measured": "2026-11-27", "quick": False}
RESULTS_OF_SOME = assemble(
    {"cores": 2},
    {
        "drain": {
            **WHEN,
            "ratios": {"drained_over_limit": 0.8, "large_photos_over_limit": 0.5},
            "photographs_per_s": {
                "full resolution": {"limit": 30.0, "DermQueue, embedded": 24.0, "a peer": 5.0},
                "24 megapixels": {"limit": 12.0, "DermQueue, embedded": 6.0},
            },
        },
        "memory": {
            **WHEN,
            "quick": True,
            "ratios": {"memory_growth": 1.0},
            "peak_mib": {"worker": 900.0},
            "worker_mib": [[0, 800.0], [500, 900.0]],
        },
    },
)


def row_of(name: str) -> list[str]:
    return next(list(row[1:]) for row in ratio_rows(RESULTS_OF_SOME) if row[0] == name)


def test_the_page_shows_what_the_results_file_holds():
    assert f"<!-- figures -->\n{to_markdown(read_results(RESULTS))}\n<!--" in (DOCS / "benchmarks.md").read_text()


def test_every_target_stands_in_the_table_met_missed_or_not_measured():
    assert [row[0] for row in ratio_rows(RESULTS_OF_SOME)[1:]] == list(TARGETS)
    assert row_of("drained_over_limit") == ["0.8", "≥ 0.8", "met", "2026-11-27"]
    assert row_of("large_photos_over_limit") == ["0.5", "≥ 0.75", "missed", "2026-11-27"]
    assert row_of("memory_growth") == ["1", "≤ 1.1", "met", "2026-11-27, quick"]
    assert row_of("claim_growth") == ["–", "≤ 2", "", "–"]


def test_contenders_stand_in_the_table_with_a_dash_for_a_pile_that_they_did_not_get():
    assert rate_rows(RESULTS_OF_SOME) == [
        ["photographs per second", "full resolution", "24 megapixels"],
        ["limit", "30.0", "12.0"],
        ["DermQueue, embedded", "24.0", "6.0"],
        ["a peer", "5.0", "–"],
    ]


def test_new_figures_take_the_place_of_the_old_ones_in_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before <!-- figures -->old<!-- end of figures --> after")
    write_document(page, RESULTS_OF_SOME)
    assert page.read_text() == f"before <!-- figures -->\n{to_markdown(RESULTS_OF_SOME)}\n<!-- end of figures --> after"


def test_a_picture_is_drawn_of_what_there_is(tmp_path):
    for number, results in enumerate((RESULTS_OF_SOME, assemble({}, {}))):
        draw(results, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 10_000


def test_a_page_without_what_is_drawn_shows_no_picture():
    polls_alone = assemble({"cores": 2}, {"api": {**WHEN, "ratios": {"polls_over_bare": 0.3}}})
    assert ".png" not in to_markdown(polls_alone)
    assert ".png" in to_markdown(RESULTS_OF_SOME)
