"""A bundle's model card: data, figures, limits and recipe, for whoever relies on it."""

from collections.abc import Sequence
from datetime import UTC, datetime

from shared.bundle import EXPERIMENTS_NAME, FamiliarityCheck, Figure, Manifest, Preprocessing
from shared.domain import OperatingPoint
from worker.quality import NOT_DERMOSCOPIC
from worker.training.groups import Group
from worker.training.recipe import Recipe
from worker.training.report import Table, figure_table, group_table, markdown_table, network_table

_ABOVE_ALL = "A decision aid for clinicians: it decides nothing alone. A *routine* is no all-clear."
_OF_EVERY_BUNDLE = (
    "Knows three diagnoses; carcinomas and everything else are forced into one of them.",
    "Takes what is no lesion for one: the warnings on photographs find much of it, not all.",
    "Its probabilities and thresholds hold for a mix of diagnoses like that of the data; elsewhere, measure anew.",
)

_SETS = (
    "A prediction set holds an image's plausible diagnoses: *coverage* is the share of sets that hold the true one,"
    " *plausible diagnoses* their mean size, *uncertain* the share with several; *certain* are those with one."
)

_SPREAD = (
    "The intervals are over images or, where the data names them, lesions or patients: they do not say how far another"
    " training moves a figure. That of the calibration error lies too high, since resampling adds to it. Each network"
    " on the images of its own fold, with thresholds chosen on the other folds:"
)
_POINTS = (
    "A case is referred when its melanoma probability reaches the threshold, which was chosen on all folds. The rates"
    " are those of the cross-validation, where each fold has its own."
)

_GATE, _TRAINED = "Photographs unlike its training images", "How it was trained"


def list_limits(of_data: Sequence[str]) -> tuple[str, ...]:
    """Return the limits of a bundle: those that every one has, and those that come from its data."""
    return (_ABOVE_ALL, *of_data, *_OF_EVERY_BUNDLE)


def write_card(
    manifest: Manifest,
    recipes: Sequence[Recipe],
    networks: Sequence[dict[str, Figure]],
    groups: list[Group],
    *,
    has_experiments: bool,
) -> str:
    """Return the bundle's card as Markdown.

    `recipes`: those that the network was trained by, one after the other. `networks`: the figures of each network of
    the cross-validation.
    """
    points = [point.name for point in manifest.operating_points]
    sections = {
        "Data and licences": list_items(manifest.sources) + f"\n\nThe bundle's own licence: {manifest.licence}.",
        "Figures": f"{manifest.measured_on}. Intervals are 95% confidence intervals. {_SETS}\n\n"
        + f"{markdown_table(figure_table(manifest.figures))}\n\n{_SPREAD}\n\n"
        + markdown_table(network_table(networks, points)),
        "Operating points": f"{_POINTS}\n\n" + markdown_table(_point_table(manifest.operating_points)),
        "Where it fails": list_items(manifest.limits) + _weak_spots(groups, manifest.default_operating_point),
        _TRAINED: _tell_training(manifest.trained_on, recipes),
    }
    if has_experiments:
        sections["What was tried"] = f"See [{EXPERIMENTS_NAME}]({EXPERIMENTS_NAME})."
    return (
        f"""# {manifest.name} {manifest.version}

{manifest.architecture}, {manifest.preprocessing.input_side} px, one forward pass. Written {datetime.now(UTC):%Y-%m-%d}.
{_retouching(manifest.preprocessing)}
**A decision aid for clinicians. It decides nothing alone.**

"""
        + "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
        + "\n"
    )


def _retouching(preprocessing: Preprocessing) -> str:
    done = ["hairs and reflections are removed"] * preprocessing.cleaned
    if preprocessing.least_light:
        done.append(f"frames darker than {preprocessing.least_light} of 255 are brightened to that level")
    return f"Before the pass, {' and '.join(done)}.\n" if done else ""


def describe_gate(card: str, check: FamiliarityCheck) -> str:
    """Return the card with its section on out-of-distribution photographs rewritten, before how it was trained."""
    head, *sections = card.split("\n## ")
    text = (
        f"{_GATE}\n\nA result carries the warning `{NOT_DERMOSCOPIC}` where the network's features are further than"
        f" {check.threshold:.3f} (scaled Mahalanobis distance) from those of {check.learnt_on}. The threshold"
        " leaves 1 in 100 of these outside, each measured against the others."
    )
    if check.flagged:
        text += f" Share of images flagged:\n\n{markdown_table(_flagged_table(check.flagged))}"
    kept = [section for section in sections if not section.startswith(_GATE)]
    at = next((i for i, section in enumerate(kept) if section.startswith(_TRAINED)), len(kept))
    return "\n## ".join((head, *kept[:at], f"{text}\n", *kept[at:]))


def _flagged_table(flagged: dict[str, Figure]) -> Table:
    rows = [(kind, f"{f.value:.3f}", f"{f.low:.3f} to {f.high:.3f}", str(f.n)) for kind, f in flagged.items()]
    return ("images", "share flagged", "95% interval", "n"), rows


def list_items(lines: tuple[str, ...]) -> str:
    """Return a list in Markdown."""
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
    return f"\n\nBy group:\n\n{markdown_table(group_table(groups, point))}" if groups else ""


def _tell_training(trained_on: str, recipes: Sequence[Recipe]) -> str:
    """Return what the network was trained on, and each recipe's values; of a later recipe those that it changes."""
    text = f"On {trained_on}, by this recipe:"
    if len(recipes) > 1:
        text = f"On {trained_on}, by {len(recipes)} recipes one after the other; a later one changes what it names:"
    before = Recipe.model_construct().flatten()  # the defaults of what has one
    for recipe in recipes:
        values = recipe.flatten()
        lines = (f"{name} = {value}" for name, value in values.items() if name not in before or value != before[name])
        text += "\n\n```\n" + "\n".join(lines) + "\n```"
        before = values
    return text
