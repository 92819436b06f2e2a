"""Runs and cross-validations in their folders, on a tiny network: what is written, and what is not repeated."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shared.bundle import MANIFEST_NAME, WEIGHTS_NAME
from shared.domain import CLASSES
from shared.errors import InputUnusable
from tests.worker.networks import tiny_manifest
from tests.worker.training.data import TinyLesionNetwork, coloured_images, tiny_recipe
from worker.network import predict, save_weights
from worker.training.cross_validation import cross_validate
from worker.training.dataset import prepare
from worker.training.folds import assign_folds
from worker.training.predictions import PREDICTIONS_NAME, Predictions, read_predictions, write_predictions
from worker.training.record import RECORD_NAME, read_recipes, read_record, read_run
from worker.training.run import train_network
from worker.training.teacher import load_run_teacher


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch):
    monkeypatch.setattr("worker.training.run.LesionNetwork", TinyLesionNetwork)
    monkeypatch.setattr("worker.training.teacher.LesionNetwork", TinyLesionNetwork)


@pytest.fixture
def weights(tmp_path):
    save_weights(TinyLesionNetwork(4), tmp_path / "start.safetensors", ("a", "b", "c", "d"))
    return tmp_path / "start.safetensors"


def ignore(done: int, total: int, loss: float) -> None:
    pass


def teacher_of(images, sure: float) -> Predictions:
    logits = np.eye(3)[images.labels.numpy()] * sure
    return Predictions(images.ids, images.labels.numpy(), logits, np.zeros(len(images), int))


def test_a_run_leaves_its_averaged_weights_and_a_record_and_no_checkpoint(tmp_path, weights):
    images = coloured_images(side=64)
    network = train_network(tiny_recipe(epochs=1), weights, tmp_path / "run", images, ignore)
    stored = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.equal(stored[key], value) for key, value in network.state_dict().items())
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["recipe"]["epochs"] == 1
    assert (record["n_images"], record["data_sha256"]) == (24, "digest 0")
    assert record["n_by_class"] == {"melanoma": 8, "seborrheic_keratosis": 8, "nevus": 8}
    assert record["seconds"] > 0
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_finished_run_is_not_repeated(tmp_path, weights):
    steps = []
    for _ in range(2):
        run = partial(train_network, tiny_recipe(epochs=1), weights, tmp_path / "run", coloured_images(side=64))
        one = run(lambda done, total, loss: steps.append(done)).state_dict()
    assert steps == [1, 2, 3, 4, 5, 6]
    assert all(torch.equal(one[k], v) for k, v in load_file(tmp_path / "run" / "weights.safetensors").items())
    with pytest.raises(InputUnusable, match="another recipe"):
        train_network(tiny_recipe(epochs=2), weights, tmp_path / "run", coloured_images(side=64), ignore)


def test_every_image_is_judged_by_the_network_that_had_not_seen_it(tmp_path, weights):
    recipe, images = tiny_recipe(epochs=1), coloured_images(n=27)
    predictions = cross_validate(recipe, weights, tmp_path / "cv", images, 3, ignore)
    assert predictions.folds.tolist() == assign_folds(images, 3, recipe.seed).tolist()
    for fold in range(3):
        network = TinyLesionNetwork()
        network.load_state_dict(load_file(tmp_path / "cv" / f"fold-{fold + 1}" / "weights.safetensors"))
        aside = np.flatnonzero(predictions.folds == fold)
        logits = predict(network, prepare(images.pixels[aside], recipe.preprocessing), recipe.preprocessing)
        np.testing.assert_allclose(predictions.logits[aside], logits.numpy(), rtol=1e-5, atol=1e-6)
        assert json.loads((tmp_path / "cv" / f"fold-{fold + 1}" / "run.json").read_text())["n_images"] == 18
    read = read_predictions(tmp_path / "cv" / "predictions.csv")
    assert (read.ids, read.groups) == (images.ids, None)
    np.testing.assert_array_equal(read.logits, predictions.logits)


def test_predictions_name_the_lesions_or_patients_that_the_data_name(tmp_path, weights):
    images = coloured_images(n=27)
    images = replace(images, groups=(images.ids[3], *images.ids[1:]))
    predictions = cross_validate(tiny_recipe(epochs=1), weights, tmp_path / "cv", images, 3, ignore)
    assert predictions.folds[0] == predictions.folds[3]
    groups = read_predictions(tmp_path / "cv" / "predictions.csv").groups
    assert [at for at, group in enumerate(groups) if group == groups[0]] == [0, 3]
    assert len(set(groups)) == 26


def test_an_interrupted_cross_validation_resumes_where_it_stopped(tmp_path, weights):
    class Killed(Exception):
        pass

    def kill(done: int, total: int, loss: float) -> None:
        if done == 6:
            raise Killed

    run = partial(cross_validate, tiny_recipe(epochs=1), weights, images=coloured_images(n=27), n_folds=3)
    whole = run(tmp_path / "whole", on_step=ignore)
    with pytest.raises(Killed):
        run(tmp_path / "killed", on_step=kill)
    steps = []
    resumed = run(tmp_path / "killed", on_step=lambda done, total, loss: steps.append((done, total)))
    assert steps == [(done, 12) for done in range(5, 13)]  # four steps each; the first fold was finished
    np.testing.assert_array_equal(resumed.logits, whole.logits)


def test_a_teachers_probabilities_are_part_of_the_targets(tmp_path, weights):
    images, recipe = coloured_images(side=64), tiny_recipe(epochs=1, loss={"teacher_share": 1.0})
    run = partial(train_network, recipe, weights, train=images, on_step=ignore)
    right, wrong, none = teacher_of(images, 5), teacher_of(images, -5), teacher_of(images, 0)
    one, same, other = (
        run(tmp_path / name, teacher_predictions=said).state_dict()["classifier.bias"]
        for name, said in (("one", (right, wrong)), ("same", (wrong, right)), ("other", (none,)))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_each_fold_is_taught_by_its_own_network_of_another_cross_validation(tmp_path, weights):
    images, still = coloured_images(side=64), {"backbone_learning_rate": 1e-30, "head_learning_rate": 1e-30}
    opinionated = TinyLesionNetwork()
    torch.nn.init.constant_(opinionated.classifier.bias, 0)
    opinionated.classifier.bias.data[0] = 5  # whatever it sees, it takes for a melanoma
    save_weights(opinionated, tmp_path / "opinionated.safetensors", CLASSES)
    teachers, taught = tmp_path / "teachers", tmp_path / "taught"
    cross_validate(tiny_recipe(epochs=1, **still), tmp_path / "opinionated.safetensors", teachers, images, 3, ignore)
    student = tiny_recipe(epochs=8, head_learning_rate=0.03, loss={"teacher_share": 1.0})
    said = cross_validate(student, weights, taught, images, 3, ignore, teacher_folds=teachers)
    assert (said.logits.argmax(axis=1) == 0).all()
    records = [json.loads((taught / f"fold-{fold}" / "run.json").read_text()) for fold in (1, 2, 3)]
    assert {each["tutor"] for each in records} == {"a run of 1 epochs, itself from opinionated.safetensors"}
    assert len({each["identity"] for each in records}) == 3


def test_no_fold_is_taught_by_a_network_that_may_have_seen_its_held_out_images(tmp_path, weights):
    images, student = coloured_images(side=64), tiny_recipe(loss={"teacher_share": 0.5})
    cross_validate(tiny_recipe(epochs=1), weights, tmp_path / "first", images, 3, ignore)
    with pytest.raises(InputUnusable, match="fold-1 does not hold"):
        cross_validate(student, weights, tmp_path / "second", images, 2, ignore, teacher_folds=tmp_path / "first")
    assert not (tmp_path / "second").exists()


def test_a_teacher_and_a_recipe_that_ignores_it_are_refused_and_the_reverse(tmp_path, weights):
    images = coloured_images(side=64)
    with pytest.raises(InputUnusable, match="one of the two"):
        train_network(tiny_recipe(), weights, tmp_path, images, ignore, teacher_predictions=(teacher_of(images, 1),))
    with pytest.raises(InputUnusable, match="one of the two"):
        train_network(tiny_recipe(loss={"teacher_share": 0.5}), weights, tmp_path, images, ignore)


def test_weights_are_taken_with_their_classifier_only_if_they_are_of_the_same_classes(tmp_path):
    images, source = coloured_images(side=64), TinyLesionNetwork()
    recipe = tiny_recipe(epochs=1, backbone_learning_rate=1e-30, head_learning_rate=1e-30)
    kept = []
    for name, classes in (("same", images.classes), ("other", ("x", "y", "z"))):
        save_weights(source, tmp_path / name, classes)
        network = train_network(recipe, tmp_path / name, tmp_path / f"run-{name}", images, ignore)
        torch.testing.assert_close(network.features[0].weight, source.features[0].weight)
        kept.append(torch.allclose(network.classifier.weight, source.classifier.weight))
    assert kept == [True, False]


def test_each_fold_starts_from_its_own_network_of_another_cross_validation(tmp_path, weights):
    images, still = coloured_images(side=64), {"backbone_learning_rate": 1e-30, "head_learning_rate": 1e-30}
    cross_validate(tiny_recipe(epochs=1), weights, tmp_path / "first", images, 3, ignore)
    cross_validate(tiny_recipe(epochs=2, **still), tmp_path / "first", tmp_path / "second", images, 3, ignore)
    for fold in ("fold-1", "fold-2", "fold-3"):
        first, second = (load_file(tmp_path / run / fold / "weights.safetensors") for run in ("first", "second"))
        torch.testing.assert_close(first["features.0.weight"], second["features.0.weight"])
    record = json.loads((tmp_path / "second" / "fold-1" / "run.json").read_text())
    assert record["starting_weights"] == "a run of 1 epochs, itself from start.safetensors"


def test_no_fold_starts_from_a_network_whose_teacher_may_have_seen_its_held_out_images(tmp_path, weights):
    images, taught = coloured_images(side=64), tiny_recipe(epochs=1, loss={"teacher_share": 0.5})
    teacher = cross_validate(tiny_recipe(epochs=1), weights, tmp_path / "teacher", images, 3, ignore)
    cross_validate(taught, weights, tmp_path / "student", images, 3, ignore, (teacher,))
    with pytest.raises(InputUnusable, match=r"fold-1 does not hold.* what taught it, might have seen") as refusal:
        cross_validate(tiny_recipe(), tmp_path / "student", tmp_path / "second", images, 3, ignore)
    assert refusal.value.code == "weights_unusable"


def test_no_fold_starts_from_a_network_that_may_have_seen_its_held_out_images(tmp_path, weights):
    images = coloured_images(side=64)
    cross_validate(tiny_recipe(epochs=1), weights, tmp_path / "first", images, 3, ignore)
    for n_folds, others in ((2, images), (3, coloured_images(side=64, seed=1))):
        with pytest.raises(InputUnusable, match="fold-1 does not hold") as refusal:
            cross_validate(tiny_recipe(), tmp_path / "first", tmp_path / "second", others, n_folds, ignore)
        assert refusal.value.code == "weights_unusable"
    (tmp_path / "first" / "fold-3" / "run.json").unlink()
    with pytest.raises(InputUnusable, match="fold-3 does not hold"):
        cross_validate(tiny_recipe(), tmp_path / "first", tmp_path / "second", images, 3, ignore)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("beside", ["run.json", MANIFEST_NAME])
def test_no_fold_starts_from_weights_that_were_trained_on_the_same_data(tmp_path, beside):
    images, learnt = coloured_images(side=64), tmp_path / WEIGHTS_NAME
    save_weights(TinyLesionNetwork(), learnt, CLASSES)
    without_ids = {"run.json": json.dumps({"data_sha256": images.digest})}
    without_ids[MANIFEST_NAME] = tiny_manifest(data_sha256=images.digest).model_dump_json()
    (tmp_path / beside).write_text(without_ids[beside])
    with pytest.raises(InputUnusable, match="has learnt from 24 of the 24 images"):
        cross_validate(tiny_recipe(), learnt, tmp_path / "cv", images, 2, ignore)
    assert not (tmp_path / "cv").exists()


@pytest.mark.parametrize("beside", ["run", "bundle"])
def test_no_fold_starts_from_weights_that_have_learnt_from_one_of_its_images(tmp_path, weights, beside):
    images = coloured_images(side=64)
    train_network(tiny_recipe(epochs=1), weights, tmp_path / "run", images, ignore)
    learnt = tmp_path / "run" / WEIGHTS_NAME
    if beside == "bundle":
        (learnt.parent / "run.json").unlink()
        (learnt.parent / MANIFEST_NAME).write_text(tiny_manifest().model_dump_json())
        write_predictions(teacher_of(images, 1), learnt.parent / PREDICTIONS_NAME)
    others = replace(images, ids=(*(f"other-{name}" for name in images.ids[1:]), images.ids[0]), digest="another")
    with pytest.raises(InputUnusable, match="has learnt from 1 of the 24 images, such as I0") as refusal:
        cross_validate(tiny_recipe(), learnt, tmp_path / "cv", others, 2, ignore)
    assert refusal.value.code == "weights_unusable"
    assert not (tmp_path / "cv").exists()


def test_a_record_names_the_images_that_its_starting_weights_had_learnt_from_too(tmp_path, weights):
    first = coloured_images(side=64)
    second = replace(first, ids=tuple(f"other-{name}" for name in first.ids))
    train_network(tiny_recipe(epochs=1), weights, tmp_path / "first", first, ignore)
    train_network(tiny_recipe(epochs=1), tmp_path / "first" / WEIGHTS_NAME, tmp_path / "second", second, ignore)
    record = json.loads((tmp_path / "second" / "run.json").read_text())
    assert (record["n_images"], record["image_ids"]) == (24, sorted(first.ids + second.ids))


def test_a_record_names_the_recipes_of_the_runs_that_it_continues(tmp_path, weights):
    start, images = weights, coloured_images(side=64)
    for epochs in (1, 2, 3):
        folder = tmp_path / f"of-{epochs}"
        train_network(tiny_recipe(epochs=epochs), start, folder, images, ignore)
        start = folder / WEIGHTS_NAME
    assert [recipe.epochs for recipe in read_run(folder / RECORD_NAME).earlier] == [1, 2]
    old = {key: value for key, value in read_record(folder).items() if key != "earlier_recipes"}
    (folder / RECORD_NAME).write_text(json.dumps(old))
    assert read_run(folder / RECORD_NAME).earlier is None
    assert read_recipes(start) is None


def test_a_record_names_the_images_that_its_teacher_had_learnt_from_too(tmp_path, weights):
    images = coloured_images(side=64)
    taught = replace(images, ids=tuple(f"other-{name}" for name in images.ids))
    train_network(tiny_recipe(epochs=1), weights, tmp_path / "teacher", images, ignore)
    student = tiny_recipe(epochs=1, loss={"teacher_share": 0.5})
    train_network(student, weights, tmp_path / "run", taught, ignore, teacher=load_run_teacher(tmp_path / "teacher"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["image_ids"] == sorted(images.ids + taught.ids)
    with pytest.raises(InputUnusable, match="has learnt from 24 of the 24 images"):
        cross_validate(tiny_recipe(), tmp_path / "run" / WEIGHTS_NAME, tmp_path / "cv", images, 2, ignore)


def test_a_record_says_from_which_bundle_its_run_started(tmp_path):
    save_weights(TinyLesionNetwork(), tmp_path / WEIGHTS_NAME, CLASSES)
    (tmp_path / MANIFEST_NAME).write_text(tiny_manifest(trained_on="8 images from elsewhere").model_dump_json())
    train_network(tiny_recipe(), tmp_path / WEIGHTS_NAME, tmp_path / "run", coloured_images(side=64), ignore)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["starting_weights"] == "the bundle tiny 1, itself of 8 images from elsewhere"


def test_recipes_for_other_classes_are_not_cross_validated(tmp_path, weights):
    images = replace(coloured_images(), classes=("a", "b", "c"))
    with pytest.raises(InputUnusable, match="tell apart"):
        cross_validate(tiny_recipe(target="diagnosis"), weights, tmp_path, images, 2, ignore)
