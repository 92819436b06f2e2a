"""Targets and losses against values worked out by hand, and against torch's own."""

import pytest
import torch
from torch.nn import functional

from worker.training.loss import cross_entropy, make_targets, mix, weigh_classes
from worker.training.recipe import Loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
LABELS = torch.tensor([0, 1])
EVEN = torch.ones(3)


def test_the_plain_loss_is_torchs_cross_entropy():
    ours = cross_entropy(LOGITS, make_targets(LABELS, 3, Loss()), EVEN, 0)
    torch.testing.assert_close(ours, functional.cross_entropy(LOGITS, LABELS))


def test_smoothing_is_torchs():
    ours = cross_entropy(LOGITS, make_targets(LABELS, 3, Loss(label_smoothing=0.1)), EVEN, 0)
    torch.testing.assert_close(ours, functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1))


def test_focal_loss_weighs_a_confident_and_right_answer_down():
    p = LOGITS.softmax(dim=1)
    expected = -((1 - p[0, 0]) ** 2 * p[0, 0].log() + (1 - p[1, 1]) ** 2 * p[1, 1].log()) / 2
    torch.testing.assert_close(cross_entropy(LOGITS, make_targets(LABELS, 3, Loss()), EVEN, 2.0), expected)


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [(0, [1, 1, 1]), (1, [8 / 3, 8 / 6, 8 / 15]), (0.5, [1.76777, 1.25, 0.790569])],
)
def test_rare_classes_weigh_more_and_images_one_on_average(exponent, expected):
    labels = torch.tensor([0] * 1 + [1] * 2 + [2] * 5)
    weights = weigh_classes(labels, 3, exponent)
    assert weights[labels].mean() == pytest.approx(1)
    torch.testing.assert_close(weights / weights[0], torch.tensor(expected) / expected[0])


def test_a_class_weighs_in_the_loss():
    weighted = cross_entropy(LOGITS, make_targets(LABELS, 3, Loss()), torch.tensor([3.0, 1.0, 1.0]), 0)
    each = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    torch.testing.assert_close(weighted, (3 * each[0] + each[1]) / 2)


def test_a_teacher_has_its_share_of_the_target():
    soft_labels = torch.tensor([[0.2, 0.2, 0.6], [0.0, 0.5, 0.5]], dtype=torch.float64)
    targets = make_targets(LABELS, 3, Loss(teacher_share=0.25), soft_labels)
    torch.testing.assert_close(targets, torch.tensor([[0.8, 0.05, 0.15], [0.0, 0.875, 0.125]]))


def test_mixup_blends_images_and_targets_alike_and_the_first_prevails():
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(-1, 3, 2, 2)
    targets = torch.eye(8)
    for seed in range(5):
        mixed, blend = mix(images, targets, 1.0, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(mixed[:, 0, 0, 0], blend @ torch.arange(8.0))
        assert (blend.diagonal() >= 0.5).all()
        torch.testing.assert_close(blend.sum(dim=1), torch.ones(8))
    assert (blend.diagonal() < 1).any()
