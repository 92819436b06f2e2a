"""`dermqueue train` and `dermqueue cross-validate` from the command line, and the real network's starting weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.models import resnet50

from deploy.cli import main
from shared.domain import CLASSES
from shared.errors import InputUnusable
from tests.worker.training.bundles import write_random_bundle
from tests.worker.training.data import TinyLesionNetwork, write_data
from worker.efficientnet_lite import EfficientNetLite0
from worker.network import LesionNetwork, load_starting_weights, save_weights
from worker.training.predictions import read_predictions
from worker.training.record import RECORD_NAME, read_run

ROWS = ("A,1,0", "B,0,1", "C,0,0", "D,1,0", "E,0,1", "F,0,0", "G,0,0", "H,0,0")
HAM10000 = "lesion_id,image_id,dx,dx_type,age,sex,localization"
SHORT = ("--set", "epochs=1", "--set", "input_side=32", "--set", "batch_size=4")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory) -> Path:
    """Random ResNet-50 weights under torchvision's key names, in half precision, without a classifier."""
    torch.manual_seed(3)
    weights = {k: v.half() if v.is_floating_point() else v for k, v in resnet50().state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "imagenet.safetensors"
    save_file({k: v for k, v in weights.items() if not k.startswith("fc.")}, path)
    return path


@pytest.fixture
def tiny(monkeypatch, tmp_path) -> Path:
    """Starting weights of a tiny network, which is trained in the ResNet-50's place."""
    monkeypatch.setattr("worker.training.run.LesionNetwork", TinyLesionNetwork)
    save_weights(TinyLesionNetwork(), tmp_path / "tiny.safetensors", CLASSES)
    return tmp_path / "tiny.safetensors"


def theirs(key: str) -> str:
    """Return a weight's name in EfficientNet-PyTorch: an underscore before each word but the last."""
    *parts, last = key.split(".")
    return ".".join([*(part if part.isdigit() else f"_{part}" for part in parts), last])


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--weights", "tiny", "--out", "out"),
        ("cross-validate", "--weights", "tiny", "--folds", "2", "--out", "out"),
        ("cross-validate", "--weights", "resnet", "--recipe", "svm", "--folds", "2", "--out", "out"),
        ("train", "--weights", "tiny", "--set", "loss.teacher_share=1", "--teacher-bundle", "bundle", "--out", "out"),
        ("evaluate", "--bundle", "bundle"),
        ("gate", "learn", "--bundle", "bundle"),
    ],
    ids=" ".join,
)
def test_every_command_that_computes_does_so_on_the_device_that_is_set(command, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("DERMQUEUE_DEVICE", "none")
    places = {"tiny": tiny, "bundle": write_random_bundle(tmp_path / "bundle"), "out": tmp_path / "out"}
    places["resnet"] = places["bundle"] / "weights.safetensors"
    arguments = [places.get(argument, argument) for argument in command]
    done = call(*arguments, "--data", *write_data(tmp_path, ROWS))
    assert (done.exit_code, "DERMQUEUE_DEVICE: input should be" in done.output) == (1, True), done.output


def call(*arguments) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_resnet_50_is_trained_from_imagenet_weights(imagenet, tmp_path):
    data = write_data(tmp_path, ROWS)
    val = write_data(tmp_path / "val", tuple(f"val-{row}" for row in ROWS))
    done = call("train", "--data", *data, "--val-data", *val, "--weights", imagenet, *SHORT, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "8 images: 2 melanoma, 2 seborrheic keratosis, 4 nevus" in done.output
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        *("weights.safetensors", "run.json", "history.csv", "curves.png", "tensorboard")
    }
    trained, started = load_file(tmp_path / "run" / "weights.safetensors"), load_file(imagenet)
    assert trained["classifier.weight"].shape == (3, 2048)
    torch.testing.assert_close(trained["features.0.weight"], started["conv1.weight"].float(), atol=0.01, rtol=0)
    assert not torch.equal(trained["features.0.weight"], started["conv1.weight"].float())


def test_an_image_that_is_learnt_from_does_not_validate(tiny, tmp_path):
    data, val = write_data(tmp_path, ROWS), write_data(tmp_path / "val", ("A,1,0", "X,0,1", "Y,0,0"))
    out = tmp_path / "run"
    done = call("train", "--data", *data, "--val-data", *val, "--weights", tiny, *SHORT, "--out", out)
    assert (done.exit_code, out.exists()) == (1, False)
    assert "1 images are in --data and in --val-data, such as A" in done.output.replace("\n", " ")


def test_pretraining_keeps_every_diagnosis_and_its_weights_start_another_training(tiny, tmp_path):
    ham = write_data(tmp_path / "ham", ("l1,I,mel,,,,", "l2,J,bkl,,,,", "l3,K,df,,,,", "l4,L,nv,,,,"), HAM10000, 1)
    done = call(
        "train", "--recipe", "pretrain", "--data", *ham, "--weights", tiny, *SHORT, "--out", tmp_path / "ham-run"
    )
    assert done.exit_code == 0, done.output
    weights = tmp_path / "ham-run" / "weights.safetensors"
    assert load_file(weights)["classifier.weight"].shape == (4, 6)
    isic = write_data(tmp_path / "isic", ROWS)
    done = call("train", "--data", *isic, "--data", *ham, "--weights", weights, *SHORT, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "Left out, for other diagnoses: 1 dermatofibroma" in done.output
    assert json.loads((tmp_path / "run" / RECORD_NAME).read_text())["n_images"] == 11


def test_a_cross_validation_prints_its_figures_and_teaches_a_student(tiny, tmp_path):
    data = write_data(tmp_path, ROWS)
    done = call("cross-validate", "--data", *data, "--weights", tiny, *SHORT, "--folds", 2, "--out", tmp_path / "cv")
    assert done.exit_code == 0, done.output
    assert "AUC melanoma" in done.output
    predictions = tmp_path / "cv" / "predictions.csv"
    assert f"dermqueue evaluate --predictions {predictions}" in done.output
    assert read_predictions(predictions).ids == tuple("ABCDEFGH")
    how = ("--set", "loss.teacher_share=0.5", "--teacher", predictions, "--teacher", predictions)
    done = call("train", *how, "--data", *data, "--weights", tiny, *SHORT, "--out", tmp_path / "student")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "student" / RECORD_NAME).read_text())["n_teachers"] == 2


def test_baselines_are_cross_validated_and_write_predictions_like_any_other(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("worker.training.svm.LesionNetwork", TinyLesionNetwork)
    rows = tuple(f"{number},{number % 3 == 0:d},{number % 3 == 1:d}" for number in range(30))
    data, folders = write_data(tmp_path, rows), []
    (tmp_path / "others").mkdir()
    for name, colours in zip("XYZ", np.random.default_rng(1).integers(0, 255, (3, 9, 9, 3), np.uint8), strict=True):
        Image.fromarray(colours).resize((96, 96)).save(tmp_path / "others" / f"{name}.png")
    others = ("--unlabelled", tmp_path / "others")
    for baseline in (
        ("--recipe", "svm"),
        ("--recipe", "svm", "--set", "cleaned=true"),
        others,
        ("--recipe", "svm", *others),
    ):
        short = SHORT[2:4] if "svm" in baseline else SHORT
        folders.append(tmp_path / f"cv-{len(folders)}")
        how = ("--data", *data, "--weights", tiny, *baseline, *short, "--folds", 2, "--out", folders[-1])
        done = call("cross-validate", *how)
        assert done.exit_code == 0, done.output
        assert "AUC melanoma" in done.output
    assert {read_predictions(folder / "predictions.csv").ids for folder in folders} == {tuple(map(str, range(30)))}
    assert (folders[2] / "fold-1" / "teacher" / "weights.safetensors").exists()


def test_nothing_is_trained_that_no_worker_could_run(tiny, tmp_path):
    data, out = write_data(tmp_path, ROWS), tmp_path / "run"
    done = call("train", "--data", *data, "--weights", tiny, "--recipe", "svm", "--out", out)
    assert done.exit_code == 1
    assert "never becomes a bundle" in done.output
    assert not (tmp_path / "run").exists()


def test_a_light_network_is_trained_from_imagenet_weights_and_taught_by_a_bundle(tmp_path):
    torch.manual_seed(3)
    state = EfficientNetLite0().state_dict()
    save_file({theirs(key): value.half() for key, value in state.items()}, tmp_path / "lite.safetensors")
    data, teacher = write_data(tmp_path, ROWS), write_random_bundle(tmp_path / "teacher")
    how = ("--recipe", "portable", "--teacher-bundle", teacher, "--weights", tmp_path / "lite.safetensors")
    done = call("train", *how, "--data", *data, *SHORT, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "run" / RECORD_NAME).read_text())
    assert (record["tutor"], record["recipe"]["network"]) == ("the bundle tiny 1", "efficientnet-lite0")
    assert read_run(tmp_path / "run" / RECORD_NAME).trained_on.endswith(", taught by the bundle tiny 1")


def test_bad_data_is_reported_before_anything_is_trained(tiny, tmp_path):
    photographs, labels = write_data(tmp_path, ROWS)
    (photographs / "B.jpg").unlink()
    (photographs / "G.jpg").write_bytes(b"")
    done = call("train", "--data", photographs, labels, "--weights", tiny, "--out", tmp_path / "run")
    assert done.exit_code == 1
    assert "labels.csv line 3: no image B" in done.output
    assert "G.jpg cannot be used: The file is empty" in done.output
    assert not (tmp_path / "run").exists()


def test_stride_two_sits_where_the_imagenet_weights_expect_it(imagenet):
    network = LesionNetwork()
    load_starting_weights(network, imagenet, CLASSES)
    first_of_layer_2 = network.features[5][0]
    assert (first_of_layer_2.conv1.stride, first_of_layer_2.conv2.stride) == ((2, 2), (1, 1))
    torch.testing.assert_close(
        first_of_layer_2.conv1.weight, load_file(imagenet)["layer2.0.conv1.weight"].float(), rtol=0, atol=0
    )


@pytest.mark.parametrize("content", [b"text", None], ids=["no safetensors", "another network"])
def test_a_file_that_holds_another_network_is_refused(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content) if content else save_file({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(InputUnusable, match="does not hold a resnet50-v1"):
        load_starting_weights(LesionNetwork(), path, CLASSES)
