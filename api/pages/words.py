"""Plain words for what the API names by codes, and numbers as people read them."""

from datetime import datetime

from flask import Blueprint

from api.percentages import percent, tell_apart
from api.warning_words import say_warning

STATES = {
    "queued": "Waiting",
    "running": "Being analysed",
    "succeeded": "Analysed",
    "rejected": "Photograph not usable",
    "failed": "Not analysed",
    "cancelled": "Cancelled",
    "refused": "Not taken",
}
CLASSES = {"melanoma": "Melanoma", "seborrheic_keratosis": "Seborrheic keratosis", "nevus": "Nevus"}
DECISIONS = {"refer": "Refer", "routine": "Routine"}
_VERDICTS = {"agree": "agrees with the model", "disagree": "disagrees with the model"}


def register(blueprint: Blueprint) -> None:
    """Give these words to all templates of a blueprint's app."""
    says = (say_state, say_class, say_decision, say_verdict, say_warning, say_plausible)
    for words in (*says, percent, tell_apart, moment, size_in_words):
        blueprint.app_template_filter()(words)


def say_state(state: str) -> str:
    return STATES[state]


def say_class(name: str) -> str:
    return CLASSES.get(name) or name.replace("_", " ").capitalize()


def say_decision(decision: str) -> str:
    return DECISIONS[decision]


def say_verdict(verdict: str) -> str:
    return _VERDICTS[verdict]


def say_plausible(names: list[str]) -> str:
    first, *others = (say_class(name).lower() for name in names)
    if not others:
        return f"Of the three, {first} alone is plausible."
    return f"Uncertain: {', '.join([first, *others[:-1]])} and {others[-1]} are plausible."


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
