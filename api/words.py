"""Plain words for what the API names by codes, and numbers as people read them: on pages and in reports."""

from collections.abc import Sequence
from datetime import datetime

_STATES = {
    "queued": "Waiting",
    "running": "Being analysed",
    "succeeded": "Analysed",
    "rejected": "Photograph not usable",
    "failed": "Not analysed",
    "cancelled": "Cancelled",
    "refused": "Not taken",
}
_CLASSES = {"melanoma": "Melanoma", "seborrheic_keratosis": "Seborrheic keratosis", "nevus": "Nevus"}
_DECISIONS = {"refer": "Refer", "routine": "Routine"}
_PROBLEMS = {
    "idempotency_key_reused": "Other photographs were sent from this page before, and some may have been taken. See"
    " under Cases what is there; what you send now counts as new."
}
"""What the API says of things that pages do not show."""
_VERDICTS = {"agree": "agrees with the model", "disagree": "disagrees with the model"}
WARNINGS = {
    "low_resolution": "The photograph has fewer pixels than the network looks at. Details that matter may be missing.",
    "attention_off_lesion": (
        "What raised the melanoma probability lies mostly beside the lesion, as far as its colour tells. Look at the"
        " heatmap before you rely on this result."
    ),
    "dark": "The photograph is dark. Take it again with more light.",
    "glare": "Much of the photograph is pure white. Take it again without flash or reflections.",
    "blurred": "The photograph is blurred. Take it again, in focus and with a still hand.",
    "no_lesion_in_view": "The photograph is nearly even: no lesion seems to be in view.",
    "hairy": "Hairs or other dark lines cover much of the photograph. Clear hairs away, and take it again.",
    "not_dermoscopic": (
        "This is not like the dermoscopy images that the model learnt from. If it was taken with a telephone, or shows"
        " something else, do not rely on this result. The model’s card says how often this warning is right."
    ),
}


def say_state(state: str) -> str:
    return _STATES[state]


def say_class(name: str) -> str:
    return _CLASSES.get(name) or name.replace("_", " ").capitalize()


def say_decision(decision: str) -> str:
    return _DECISIONS[decision]


def say_verdict(verdict: str) -> str:
    return _VERDICTS[verdict]


def say_problem(problem: dict) -> str:
    """Say what went wrong."""
    return _PROBLEMS.get(problem["code"], problem["detail"])


def say_warning(code: str) -> str:
    return WARNINGS.get(code) or f"{code.replace('_', ' ').capitalize()}."


def say_plausible(names: Sequence[str]) -> str:
    first, *others = (say_class(name).lower() for name in names)
    if not others:
        return f"Of the model’s three diagnoses, {first} alone is plausible."
    return (
        f"Uncertain: of the model’s three diagnoses, {', '.join([first, *others[:-1]])} and {others[-1]} are plausible."
    )


def moment(value: str | datetime | None) -> str:
    """Return a moment of the API's, which is in UTC, to the minute."""
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
    """Return a share in percent; small ones with a digit more. What is neither nothing nor all never looks like it."""
    if digits is None:
        digits = 1 if share < 0.1 else 0
    least = 10 ** -(digits + 2)
    if 0 < share < least / 2:
        return f"<{least:.{digits}%}"
    if 1 - least / 2 <= share < 1:
        return f">{1 - least:.{digits}%}"
    return f"{share:.{digits}%}"


def tell_apart(share: float, threshold: float) -> tuple[str, str]:
    """Return both in percent, with as many digits as show that they differ, if they do: a decision hangs on it."""
    for digits in (None, 1, 2, 3, 4):
        shown = percent(share, digits), percent(threshold, digits)
        if share == threshold or shown[0] != shown[1]:
            break
    return shown
