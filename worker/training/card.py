"""A bundle's card: what whoever relies on it should know."""

from datetime import UTC, datetime

from shared.bundle import EXPERIMENTS_NAME, Manifest
from shared.domain import OperatingPoint
from worker.training.groups import Group
from worker.training.recipe import Recipe
from worker.training.report import Table, figure_table, group_table, markdown_table

LIMITS = (
    "A decision aid for clinicians: it decides nothing alone. A *routine* is no all-clear.",
    "Trained on dermoscopy images of mostly light skin; on other skin and on smartphone photographs it is unproven.",
    "Knows three diagnoses; carcinomas and everything else are forced into one of them.",
    "Does not tell whether a photograph shows a lesion at all.",
    "Its probabilities and thresholds hold for a mix of diagnoses like that of the data; elsewhere, measure anew.",
)


def write_card(manifest: Manifest, recipe: Recipe, groups: list[Group], *, has_experiments: bool) -> str:
    """Return the bundle's card as Markdown."""
    sections = {
        "Data and licences": _items(manifest.sources) + f"\n\nThe bundle's own licence: {manifest.licence}.",
        "Figures": f"{manifest.measured_on}. Intervals hold 95 %.\n\n{markdown_table(figure_table(manifest.figures))}",
        "Operating points": "A case is referred when its melanoma probability reaches the threshold.\n\n"
        + markdown_table(_point_table(manifest.operating_points)),
        "Where it fails": _items(manifest.limits) + _weak_spots(groups, manifest.default_operating_point),
        "How it was trained": f"On {manifest.trained_on}, by this recipe:\n\n```\n{_recipe_lines(recipe)}\n```",
    }
    if has_experiments:
        sections["What was tried"] = f"[{EXPERIMENTS_NAME}]({EXPERIMENTS_NAME}) lies beside this card."
    return (
        f"""# {manifest.name} {manifest.version}

{manifest.architecture}, {manifest.preprocessing.input_side} px, one forward pass. Written {datetime.now(UTC):%Y-%m-%d}.

**A decision aid for clinicians. It decides nothing alone.**

"""
        + "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
        + "\n"
    )


def _items(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _point_table(points: tuple[OperatingPoint, ...]) -> Table:
    def share(value: float, interval: tuple[float, float] | None) -> str:
        return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")

    rows = [
        (
            p.name,
            f"{p.threshold:.4f}",
            share(p.sensitivity, p.sensitivity_interval),
            share(p.specificity, p.specificity_interval),
        )
        for p in points
    ]
    return ("name", "threshold", "sensitivity", "specificity"), rows


def _weak_spots(groups: list[Group], point: str) -> str:
    return f"\n\nBy age and sex:\n\n{markdown_table(group_table(groups, point))}" if groups else ""


def _recipe_lines(recipe: Recipe) -> str:
    """Return the recipe's values, one a line; parts of parts are named with a dot."""

    def lines(values: dict, prefix: str = "") -> list[str]:
        found = []
        for name, value in values.items():
            found += lines(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name} = {value}"]
        return found

    return "\n".join(lines(recipe.model_dump(exclude_defaults=True)))
