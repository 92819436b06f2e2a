"""Batches of anything that can be sliced, and the progress reported."""

import numpy as np

from worker.training.batches import in_batches


def test_every_item_is_yielded_once_and_reported_only_when_it_is_done():
    told = []
    batches = in_batches(np.arange(70), lambda *done: told.append(done))
    next(batches)
    assert told == []
    rest = [batch.tolist() for batch in batches]
    assert rest == [[*range(32, 64)], [*range(64, 70)]]
    assert told == [(32, 70), (64, 70), (70, 70)]


def test_nothing_makes_no_batch():
    assert list(in_batches([], lambda *done: None)) == []
