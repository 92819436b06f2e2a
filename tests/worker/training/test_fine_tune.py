"""On a tiny network, the loop learns, resumes after a kill as if nothing had happened, and says what cannot work."""

import csv
import gc
import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional

from shared.errors import InputUnusable, ModelUnusable
from tests.worker.networks import SIDE, tiny_model
from tests.worker.training.data import TinyLesionNetwork, coloured_images, tiny_recipe
from worker.model import Model
from worker.network import predict
from worker.training import fine_tune
from worker.training.augment import augment
from worker.training.dataset import prepare
from worker.training.fine_tune import FineTuning, rate_factor
from worker.training.recipe import Loss, Recipe
from worker.training.teacher import teach_with

EVERYTHING = {
    "loss": {"label_smoothing": 0.05, "class_balance": 0.5, "focal_gamma": 1, "mixup_alpha": 0.4, "off_lesion": 1},
    "augmentation": {
        "rotation_deg": 90,
        "scale": 0.1,
        "hue_deg": 5,
        "degraded_share": 0.5,
        "blur_px": 1,
        "noise": 0.02,
    },
}


class Killed(Exception):
    pass


def start(folder, recipe: Recipe, *, network_seed: int = 0, val=None, seed: int = 0, **details) -> FineTuning:
    torch.manual_seed(network_seed)
    return FineTuning(recipe, TinyLesionNetwork(), folder, coloured_images(seed=seed, side=64), val, **details)


def ignore(done: int, total: int, loss: float) -> None:
    pass


def kill_at(step: int):
    def on_step(done: int, total: int, loss: float) -> None:
        if done == step:
            raise Killed

    return on_step


def test_hairs_are_painted_over_in_training_if_they_are_in_preprocessing(tmp_path, monkeypatch):
    slope = torch.linspace(150, 200, 256).round().byte().view(1, 1, -1, 1)
    images = replace(coloured_images(), pixels=slope.expand(24, 256, 256, 3).contiguous())
    recipe = tiny_recipe(cleaned=True, epochs=1, augmentation={"hairs": 10})
    met = []

    def watch(pixels, side, ranges, generator):
        met.append(pixels)
        assert not ranges.hairs
        return augment(pixels, side, ranges, generator)

    monkeypatch.setattr(fine_tune, "augment", watch)
    FineTuning(recipe, TinyLesionNetwork(), tmp_path, images).run(ignore)
    traces = (torch.cat(met).int() - slope.int()).abs().amax(dim=3)
    assert 4 <= int((traces.amax(dim=(1, 2)) > 0).sum()) <= 20
    assert (traces > 20).float().mean() < 0.001  # what is left where a hair crosses a corner


def test_it_learns_what_there_is_to_learn(tmp_path):
    val = coloured_images(n=30, seed=9, side=32)
    tuning = start(tmp_path, tiny_recipe(epochs=12), val=val)
    network = tuning.run(ignore)
    logits = predict(network, val.pixels, tuning.recipe.preprocessing)
    assert float((logits.argmax(dim=1) == val.labels).float().mean()) > 0.9
    assert tuning.history[-1].train_loss < 0.7 * tuning.history[0].train_loss
    assert tuning.history[-1].val_auc_mean > 0.95


@pytest.mark.parametrize("step", [1, 7, 13, 18])
def test_a_run_that_was_killed_resumes_to_the_same_weights_to_the_last_bit(tmp_path, step):
    recipe = tiny_recipe(**EVERYTHING)  # 24 images: epochs end at steps 6, 12 and 18
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = start(tmp_path / "whole", recipe)
    whole.run(ignore)
    with pytest.raises(Killed):
        start(tmp_path / "killed", recipe).run(kill_at(step))
    resumed, steps = start(tmp_path / "killed", recipe), []
    resumed.run(lambda done, total, loss: steps.append(done))
    assert steps[0] == (step - 1) // 6 * 6 + 1
    for one, other in ((whole.network, resumed.network), (whole.averaged, resumed.averaged)):
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
    assert [e.train_loss for e in whole.history] == [e.train_loss for e in resumed.history]


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": tiny_recipe(epochs=4)},
        {"recipe": tiny_recipe(), "seed": 1},
        {"recipe": tiny_recipe(), "network_seed": 1},
        {"recipe": tiny_recipe(), "soft_labels": torch.full((24, 3), 1 / 3)},
        {"recipe": tiny_recipe(), "teacher": teach_with(tiny_model())},
    ],
    ids=["recipe", "data", "weights", "soft labels", "teacher"],
)
def test_a_folder_with_a_run_of_another_kind_is_left_alone(tmp_path, other):
    share = {"loss": {"teacher_share": 0.1}}
    with pytest.raises(Killed):
        start(tmp_path, tiny_recipe(**share)).run(kill_at(7))
    other["recipe"] = other["recipe"].model_copy(update={"loss": tiny_recipe(**share).loss})
    with pytest.raises(InputUnusable, match="another recipe"):
        start(tmp_path, **other).run(ignore)


def test_a_teacher_reads_the_images_as_they_are_trained_on(tmp_path):
    class Recorder(Model):
        def read(self, pixels, *measured):
            seen.append(pixels)
            return super().read(pixels, *measured)

    seen, plain = [], tiny_model()
    teacher = teach_with(Recorder(plain.manifest, plain.digest, plain.card, plain._runtime))
    recipe = tiny_recipe(epochs=1, loss={"teacher_share": 1.0}, augmentation={"brightness": 0.5}, input_side=64)
    tuning = start(tmp_path, recipe, teacher=teacher)
    tuning.run(ignore)
    assert [pixels.shape for pixels in seen] == [(4, 32, 32, 3)] * 6  # at the teacher's own side
    as_they_were = {pixels.float().mean().item() for pixels in tuning.train.pixels}
    assert not as_they_were & {pixels.mean() for batch in seen for pixels in batch}


def test_a_teachers_probabilities_are_those_of_its_network_for_the_same_pixels_whatever_the_bundles_temperature():
    pixels = torch.randint(0, 256, (3, SIDE, SIDE, 3), dtype=torch.uint8)
    asked = teach_with(tiny_model(temperature=3.0)).ask(pixels.permute(0, 3, 1, 2).float() / 255)
    said = tiny_model(temperature=1.0).read(pixels.numpy()).probabilities
    np.testing.assert_allclose(asked.numpy(), said, atol=2e-3)  # bfloat16, where the device has it


def test_a_network_learns_what_its_teacher_says_whatever_the_labels(tmp_path):
    model, recipe = (
        tiny_model(temperature=1.0),
        tiny_recipe(epochs=8, loss={"teacher_share": 1.0}, head_learning_rate=0.03),
    )
    tuning = start(tmp_path, recipe, teacher=teach_with(model))
    pixels = prepare(tuning.train.pixels, recipe.preprocessing)
    said = model.read(pixels.numpy()).probabilities
    learnt = predict(tuning.run(ignore), pixels, recipe.preprocessing).softmax(dim=1).numpy()
    assert np.abs(learnt - said).mean() < 0.05


def test_history_curves_and_tensorboard_have_every_epoch_even_after_a_kill(tmp_path):
    recipe, val = tiny_recipe(), coloured_images(n=12, seed=9, side=32)
    with pytest.raises(Killed):
        start(tmp_path, recipe, val=val).run(kill_at(8))
    tuning = start(tmp_path, recipe, val=val)
    tuning.run(ignore)
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["val_loss"]) for row in rows] == [e.val_loss for e in tuning.history]
    with Image.open(tmp_path / "curves.png") as curves:
        assert curves.size == (1080, 432)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"loss/train", "loss/val", "accuracy/train", "accuracy/val", "auc_melanoma/val"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("loss/val")] == [1, 2, 3]
    assert [event.value for event in events.Scalars("loss/val")] == pytest.approx([e.val_loss for e in tuning.history])


def test_without_the_challenges_two_classes_there_is_no_mean_auc_and_no_epoch_is_lost(tmp_path):
    others = ("basal_cell_carcinoma", "melanoma", "nevus")
    val = replace(coloured_images(n=12, seed=9, side=32), classes=others)
    tuning = start(tmp_path, tiny_recipe(epochs=1), val=val)
    tuning.run(ignore)
    (epoch,) = tuning.history
    assert (epoch.val_auc_mean, epoch.val_auc_melanoma is None, epoch.val_accuracy is None) == (None, False, False)


def test_without_validation_images_only_the_training_is_drawn(tmp_path):
    start(tmp_path, tiny_recipe(epochs=1)).run(ignore)
    (row,) = csv.DictReader((tmp_path / "history.csv").read_text().splitlines())
    assert (row["val_loss"], row["val_auc_mean"]) == ("", "")
    assert "loss/val" not in EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()["scalars"]


def test_a_run_that_is_over_leaves_nothing_in_memory(tmp_path):
    gc.disable()
    try:
        tuning = start(tmp_path, tiny_recipe(epochs=1))
        tuning.run(ignore)
        left = [weakref.ref(kept) for kept in (tuning, tuning.network, tuning.train.pixels)]
        del tuning
        assert [kept() for kept in left] == [None] * 3
    finally:
        gc.enable()


def test_a_loss_that_is_not_a_number_ends_the_run_with_a_message(tmp_path):
    tuning = start(tmp_path, tiny_recipe())
    with torch.no_grad():
        tuning.network.classifier.bias[0] = math.nan
    with pytest.raises(ModelUnusable, match="lower learning rates"):
        tuning.run(ignore)


def test_not_even_the_last_step_may_spoil_the_network(tmp_path):
    tuning = start(tmp_path, tiny_recipe(epochs=1))

    def spoil(done: int, total: int, loss: float) -> None:
        if done == total - 1:
            torch.nn.init.constant_(tuning.network.classifier.bias, math.nan)

    with pytest.raises(ModelUnusable, match="no longer a number after 6 steps"):
        tuning.run(spoil)


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(InputUnusable, match="A batch takes 25 images, and there are 24"):
        start(tmp_path, tiny_recipe(batch_size=25))


def test_head_and_backbone_have_rates_of_their_own(tmp_path):
    tuning = start(tmp_path, tiny_recipe(epochs=1, backbone_learning_rate=1e-30, head_learning_rate=0.1))
    before = {key: value.clone() for key, value in tuning.network.state_dict().items()}
    tuning.run(ignore)
    after = tuning.network.state_dict()
    torch.testing.assert_close(after["features.0.weight"], before["features.0.weight"])
    assert (after["classifier.weight"] - before["classifier.weight"]).abs().max() > 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"normalisation": "image-mean"},
        *({"loss": {name: 0.5}} for name in Loss.model_fields if name != "teacher_share"),
        {"augmentation": {"brightness": 0.2}},
        {"warmup_share": 0.5},
        {"weight_decay": 0.5},
    ],
    ids=str,
)
def test_every_part_of_a_recipe_changes_what_is_learnt(tmp_path, change):
    images = coloured_images(n=20, side=64)  # of seven, seven and six
    weights = []
    for name, recipe in (("plain", tiny_recipe(epochs=1)), ("changed", tiny_recipe(epochs=1, **change))):
        (tmp_path / name).mkdir()
        torch.manual_seed(0)
        weights.append(FineTuning(recipe, TinyLesionNetwork(), tmp_path / name, images).run(ignore).classifier.weight)
    assert not torch.equal(*weights)


def test_the_averaged_weights_are_validated_and_the_rate_is_that_of_the_last_step(tmp_path):
    val, recipe = coloured_images(n=12, seed=9, side=32), tiny_recipe(epochs=2, ema_decay=0.9)
    tuning = start(tmp_path, recipe, val=val)
    logits = predict(tuning.run(ignore), val.pixels, recipe.preprocessing)
    assert tuning.history[-1].val_loss == pytest.approx(functional.cross_entropy(logits, val.labels).item())
    assert tuning.history[-1].learning_rate == pytest.approx(1e-2 * rate_factor(11 / 12, 0))


def test_rates_rise_to_their_peak_and_fall_to_zero():
    assert rate_factor(0, 0.1) == 0
    assert rate_factor(0.05, 0.1) == 0.5
    assert rate_factor(0.1, 0.1) == 1
    assert rate_factor(0.55, 0.1) == pytest.approx(0.5)
    assert rate_factor(1, 0.1) == pytest.approx(0)
    assert rate_factor(0, 0) == 1


def test_the_average_follows_the_weights_at_its_decay_and_faster_at_first(tmp_path):
    tuning = start(tmp_path, tiny_recipe(ema_decay=0.999))
    weight, mean = tuning.network.classifier.bias, tuning.network.features[1].running_mean
    for n, value in enumerate((1.0, 2.0)):  # the first is taken as it is; then (1 + 1) / (10 + 1) of it stays
        with torch.no_grad():
            weight.fill_(value)
            mean.fill_(value)
        tuning.averaged.update_parameters(tuning.network)
        expected = 1.0 if n == 0 else 1.0 * 2 / 11 + 2.0 * 9 / 11
        assert tuning.averaged.module.classifier.bias.tolist() == pytest.approx([expected] * 3)
        assert tuning.averaged.module.features[1].running_mean.tolist() == pytest.approx([expected] * 6)
