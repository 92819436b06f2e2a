"""Splits many images into batches, and reports progress."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

_BATCH = 32

OnDone = Callable[[int, int], None]
"""Called with how many are done, and how many there are."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

Sliced = TypeVar("Sliced", Sequence, np.ndarray, Tensor)


def in_batches(items: Sliced, on_done: OnDone) -> Iterator[Sliced]:
    """Yield the items in batches of the size that a model reads at once; `on_done` is called after each."""
    for begin in range(0, len(items), _BATCH):
        batch = items[begin : begin + _BATCH]
        yield batch
        on_done(begin + len(batch), len(items))
