"""What the heatmap's benchmark makes of what it measured."""

import pytest
import torch

from tests.benchmarks.heatmap import (
    CAPTUM,
    FORWARD,
    OURS,
    TORCH_FORWARD,
    TORCH_OURS,
    find_difference,
    find_ratios,
    stretch,
)


def test_each_is_held_against_the_forward_pass_of_its_own_runtime():
    seconds = {FORWARD: 2.0, OURS: 3.0, TORCH_FORWARD: 4.0, TORCH_OURS: 5.0, CAPTUM: 10.0}
    assert find_ratios(seconds) == {OURS: 1.5, TORCH_OURS: 1.25, CAPTUM: 2.5}


def test_each_map_is_stretched_to_its_own_maximum():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]])
    stretched = stretch(maps, (2, 2))
    assert stretched[0].flatten().tolist() == pytest.approx([0, 0.25, 0.5, 1], abs=1e-6)
    assert stretched[1].flatten().tolist() == [0, 0, 0, 0]


def test_a_difference_is_relative_to_the_other_map():
    assert find_difference(torch.tensor([3.0, 8.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.8)
