"""Takes many images batch by batch, and tells how far it is."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

_BATCH = 32

OnDone = Callable[[int, int], None]
"""Told how many are done, and how many there are."""

OnProgress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

Sliced = TypeVar("Sliced", Sequence, np.ndarray, Tensor)


def in_batches(items: Sliced, on_done: OnDone) -> Iterator[Sliced]:
    """Yield the items, as many at a time as a model reads at once; `on_done` is told after each batch."""
    for begin in range(0, len(items), _BATCH):
        batch = items[begin : begin + _BATCH]
        yield batch
        on_done(begin + len(batch), len(items))
