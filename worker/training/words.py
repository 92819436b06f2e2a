"""Classes and figures in words, for cards, reports, pictures and the terminal."""


def in_words(name: str) -> str:
    """Return a name such as `seborrheic_keratosis` with spaces."""
    return name.replace("_", " ")


def count_in_words(counts: dict[str, int]) -> str:
    """Return `2 melanoma, 3 nevus`."""
    return ", ".join(f"{n} {in_words(name)}" for name, n in counts.items())
