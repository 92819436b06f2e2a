"""What an evaluation found, as JSON and as a page of Markdown with pictures."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from shared.bundle import Figure
from shared.domain import CLASSES
from worker.training.comparison import Comparison
from worker.training.groups import LEAST, Group
from worker.training.localisation import Localisation, OffLesionWarnings
from worker.training.malignancy import MALIGNANT, MalignantAuc
from worker.training.pictures import CALIBRATION, CONFUSION, ROBUSTNESS, ROC
from worker.training.robustness import TARGET_DROP, Robustness
from worker.training.words import count_in_words, in_words

REPORT_JSON, REPORT_MARKDOWN = "report.json", "report.md"

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Titles of columns, then rows."""


class Report(BaseModel):
    """`report.json`. `operating_point` is that of the groups' rates, `attention` the heatmaps' localisation.

    `confusion`: rows are diagnoses, columns the network's answers, in the order of the classes. `off_lesion`: the
    warnings of heatmaps that lie beside the lesion.
    """

    subject: str
    images: str
    n: int
    n_by_class: dict[str, int]
    left_out: dict[str, int]
    operating_point: str
    figures: dict[str, Figure]
    confusion: list[list[int]]
    groups: list[Group]
    malignancy: list[MalignantAuc] = []
    against: str | None = None
    comparison: Comparison | None = None
    robustness: list[Robustness] = []
    attention: list[Localisation] = []
    off_lesion: OffLesionWarnings | None = None


def write_report(folder: Path, report: Report) -> None:
    """Write `report.json` and `report.md`; the pictures that the page shows lie beside it."""
    (folder / REPORT_JSON).write_text(report.model_dump_json(indent=2) + "\n")
    (folder / REPORT_MARKDOWN).write_text(_page(report))


def tables(report: Report) -> dict[str, Table]:
    """Return by title what is printed: the figures, those by group, those of other diagnoses, what was asked for."""
    found = {"Figures": figure_table(report.figures)}
    if report.groups:
        found[f"By group (too few: under {LEAST} melanomas or others)"] = group_table(
            report.groups, report.operating_point
        )
    if report.malignancy:
        malignant = ", ".join(map(in_words, MALIGNANT))
        found[f"Malignant ({malignant}) or not, of all diagnoses"] = _malignancy_table(report.malignancy)
    if report.comparison:
        found[f"Against {report.against}, by DeLong's test"] = _comparison_table(report.comparison)
    if report.robustness:
        found[f"Disturbed, at “{report.operating_point}” (!: AUC falls by more than {TARGET_DROP})"] = (
            _robustness_table(report.robustness)
        )
    if report.attention:
        found["Heatmaps of melanoma and the lesions' outlines"] = _localisation_table(report.attention)
    if warnings := report.off_lesion:
        rows = [tuple(str(value) for value in (warnings.n, warnings.warned, warnings.right, warnings.off_lesion))]
        columns = ("n", "warned", "of these rightly", "visible heatmaps off the lesion")
        found["The warning `attention_off_lesion`"] = columns, rows
    return found


def figure_table(figures: dict[str, Figure]) -> Table:
    rows = [(in_words(name), f"{f.value:.3f}", _span(f), str(f.n)) for name, f in figures.items()]
    return ("figure", "value", "95% interval", "n"), rows


def network_table(networks: Sequence[dict[str, Figure]], points: Sequence[str]) -> Table:
    """Return the figures of each network of a cross-validation on the images of its own fold."""
    rates = [f"{rate}_{point}" for point in points for rate in ("sensitivity", "specificity")]
    shown = ["auc_melanoma", "auc_seborrheic_keratosis", "accuracy", *rates, *(f"coverage_{name}" for name in CLASSES)]

    def said(figures: dict[str, Figure], name: str) -> str:
        return f"{figures[name].value:.2f}" if name in figures else "–"  # a fold may lack a class

    rows = [(in_words(name), *(said(figures, name) for figures in networks)) for name in shown]
    return ("figure", *(f"network {number}" for number in range(1, len(networks) + 1))), rows


def group_table(groups: list[Group], point: str) -> Table:
    shown = ("auc_melanoma", f"sensitivity_{point}", f"specificity_{point}")

    def said(group: Group) -> tuple[str, ...]:
        if not group.figures:
            return "too few", "", ""
        return tuple(_value_and_span(group.figures[name]) for name in shown)

    rows = [(f"{group.by}: {group.name}", str(group.n), str(group.n_melanoma), *said(group)) for group in groups]
    return ("group", "n", "melanomas", *map(in_words, shown)), rows


def _malignancy_table(groups: list[MalignantAuc]) -> Table:
    rows = [
        (g.group, str(g.n), str(g.n_malignant), f"{g.auc.value:.2f} ({_span(g.auc, 2)})" if g.auc else "too few")
        for g in groups
    ]
    return ("group", "n", "malignant", "AUC of the melanoma probability"), rows


def _comparison_table(comparison: Comparison) -> Table:
    rows = [
        (in_words(name), f"{d.first:.3f}", f"{d.second:.3f}", f"{d.difference:+.3f}", _span(d), f"{d.p:.3f}")
        for name, d in comparison.auc.items()
    ]
    if mean := comparison.auc_mean:
        rows.append(("mean (bootstrap)", "", "", f"{mean.value:+.3f}", _span(mean), ""))
    return ("AUC", "first", "second", "difference", "95% interval", "p"), rows


def _robustness_table(robustness: list[Robustness]) -> Table:
    rows = [
        (
            found.disturbance,
            f"{found.auc_melanoma.value:.3f}",
            f"{found.auc_drop.value:+.3f}" + (" !" if found.auc_drop.value > TARGET_DROP else ""),
            _span(found.auc_drop),
            _value_and_span(found.sensitivity),
            _value_and_span(found.turned),
        )
        for found in robustness
    ]
    return ("disturbance", "AUC melanoma", "drop", "95% interval", "sensitivity", "decisions changed"), rows


def _localisation_table(localisation: list[Localisation]) -> Table:
    shown = ("energy_inside", "peak_inside", "best_energy", "lesion_share")
    rows = [
        (
            in_words(found.diagnosis),
            str(found.energy_inside.n),
            str(found.blank),
            *(_value_and_span(getattr(found, name)) for name in shown),
        )
        for found in localisation
    ]
    columns = (
        "diagnosis",
        "n",
        "blank",
        "energy inside",
        "peak inside",
        "true outline, as coarse",
        "lesion's share of the picture",
    )
    return columns, rows


def markdown_table(table: Table) -> str:
    """Return a table in Markdown."""
    columns, rows = table
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ("---",) * len(columns), *rows))


def _value_and_span(figure: Figure) -> str:
    return f"{figure.value:.2f} ({_span(figure, 2)})"


def _span(figure, digits: int = 3) -> str:
    return f"{figure.low:.{digits}f} to {figure.high:.{digits}f}"


def _page(report: Report) -> str:
    left_out = f" Left out: {count_in_words(report.left_out)}." if report.left_out else ""
    return (
        "\n\n".join(
            (
                f"# {report.subject}",
                f"{report.images}: {report.n} images ({count_in_words(report.n_by_class)}).{left_out}",
                "Intervals are 95% confidence intervals: a thousand bootstrap resamples, within each class, of images"
                " or, where the data name them, of lesions or patients; for shares of fewer than 200 of these, and for"
                " shares of 0 and 1, exact (Clopper and Pearson).",
                *(f"![{Path(name).stem}]({name})" for name in _pictures(report)),
                *(f"## {title}\n\n{markdown_table(table)}" for title, table in tables(report).items()),
            )
        )
        + "\n"
    )


def _pictures(report: Report) -> tuple[str, ...]:
    return (ROC, CALIBRATION, CONFUSION) + ((ROBUSTNESS,) if report.robustness else ())
