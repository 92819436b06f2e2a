"""Shares of one as people read them, in percent."""


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
