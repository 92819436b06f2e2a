"""Words for the API's codes, and numbers formatted for people: on the pages and in the report."""

from collections.abc import Sequence
from datetime import datetime

from shared.domain import PLAUSIBLE_SHARE

_STATES = {
    "queued": "Waiting",
    "running": "Being analysed",
    "succeeded": "Analysed",
    "rejected": "Photograph unusable",
    "failed": "Analysis failed",
    "cancelled": "Cancelled",
    "refused": "Not accepted",
}
_COUNTED = {"rejected": "unusable", "failed": "failed"}
"""States whose usual words do not fit after a number."""
_CLASSES = {"melanoma": "Melanoma", "seborrheic_keratosis": "Seborrheic keratosis", "nevus": "Nevus"}
_DECISIONS = {"refer": "Refer", "routine": "Routine"}
_PROBLEMS = {
    "idempotency_key_reused": "Other photographs were sent from this page before, and some may have been accepted."
    " Check the list under Cases; what you send now counts as new."
}
"""Replaces an API sentence that names something the pages do not show."""
_VERDICTS = {"agree": "agrees with the model", "disagree": "disagrees with the model"}
WARNINGS = {
    "low_resolution": "The photograph has fewer pixels than the model’s input. Relevant detail may be missing.",
    "attention_off_lesion": (
        "What raised the melanoma probability lies mostly outside the lesion, judging by its colour. Check the heatmap"
        " before you rely on this result."
    ),
    "dark": "The photograph is dark. Take it again with more light.",
    "glare": "Much of the photograph is pure white. Take it again without flash or reflections.",
    "blurred": "The photograph is blurred. Take it again, in focus and with a still hand.",
    "no_lesion_in_view": "The photograph is nearly uniform: no lesion seems to be in view.",
    "hairy": "Hairs or other dark lines cover much of the photograph. Move hair aside and take it again.",
    "not_dermoscopic": (
        "This does not look like the dermoscopy images that the model was trained on. If it was taken with a phone, or"
        " shows something else, do not rely on this result. The model card says how often this warning is right."
    ),
}


def say_state(state: str) -> str:
    return _STATES[state]


def say_counted(state: str) -> str:
    return _COUNTED.get(state, say_state(state).lower())


def say_class(name: str) -> str:
    return _CLASSES.get(name) or name.replace("_", " ").capitalize()


def say_decision(decision: str) -> str:
    return _DECISIONS[decision]


def say_verdict(review: dict) -> str:
    return _VERDICTS[review["verdict"]] if review["had_result"] else "has seen it, without a result"


def say_problem(problem: dict) -> str:
    return _PROBLEMS.get(problem["code"], problem["detail"])


def say_warning(code: str) -> str:
    return WARNINGS.get(code) or f"{code.replace('_', ' ').capitalize()}."


def say_plausible(names: Sequence[str]) -> str:
    first, *others = (say_class(name).lower() for name in names)
    if not others:
        return f"Of the model’s three diagnoses, only {first} is plausible."
    return (
        f"Uncertain: of the model’s three diagnoses, {', '.join([first, *others[:-1]])} and {others[-1]} are plausible."
    )


def moment(value: str | datetime | None) -> str:
    """Return a UTC time of the API, to the minute."""
    if value is None:
        return "–"
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return f"{value:%-d %b %Y, %H:%M}"


def size_in_words(size_bytes: int) -> str:
    if size_bytes < 2**20:
        return f"{max(1, round(size_bytes / 2**10))} KiB"
    return f"{round(size_bytes / 2**20, 1):g} MiB"


def percent(share: float, digits: int | None = None) -> str:
    """Return a share in percent, below 10% with one decimal. One that only rounds to 0% or 100% gets a `<` or `>`."""
    if digits is None:
        digits = 1 if share < 0.1 else 0
    least = 10 ** -(digits + 2)
    if 0 < share < least / 2:
        return f"<{least:.{digits}%}"
    if 1 - least / 2 <= share < 1:
        return f">{1 - least:.{digits}%}"
    return f"{share:.{digits}%}"


def tell_apart(share: float, threshold: float) -> tuple[str, str]:
    """Return both in percent, with enough digits to differ where they do: the decision depends on which is larger."""
    for digits in (None, 1, 2, 3, 4):
        shown = percent(share, digits), percent(threshold, digits)
        if share == threshold or shown[0] != shown[1]:
            break
    return shown


COVERAGE = (
    f"On the model card’s images, the plausible diagnoses included the true one for about {percent(PLAUSIBLE_SHARE)} of"
    " the lesions of each diagnosis."
)
"""Stands beside `say_plausible`."""
