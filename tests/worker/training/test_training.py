"""`dermqueue train` on a handful of images and a random ResNet-50."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torchvision.models import resnet50

from deploy.cli import main
from shared.errors import ConfigurationInvalid
from tests import images
from worker.model import load_model
from worker.network import LesionNetwork, load_imagenet_weights
from worker.training.augment import augment
from worker.training.dataset import read_isic
from worker.training.fine_tune import FineTuning
from worker.training.recipe import read_recipe

RECIPE = """
network = "resnet50-v1"
input_side = 32
source_side = 48
epochs = 2
batch_size = 4
peak_learning_rate = 1e-3
weight_decay = 0.01
label_smoothing = 0.0
ema_decay = 0.5
seed = 1

[augmentation]
rotation_deg = 90
scale = 0.2
shift = 0.1
brightness = 0.1
contrast = 0.1
saturation = 0.1
"""
ROWS = ("A,1,0", "B,0,1", "C,0,0", "D,1,0", "E,0,1", "F,0,0", "G,0,0", "H,0,0")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with images, labels, a recipe and random "ImageNet" weights."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "images").mkdir()
    for number, row in enumerate(ROWS):
        picture = images.lesion(96 + number, 72).rotate(45 * number)
        (folder / "images" / f"{row[0]}.jpg").write_bytes(images.encode(picture, "JPEG"))
    (folder / "labels.csv").write_text("\n".join(("image_id,melanoma,seborrheic_keratosis", *ROWS)))
    (folder / "recipe.toml").write_text(RECIPE)
    torch.manual_seed(3)
    weights = resnet50().state_dict()
    save_file({k: v for k, v in weights.items() if not k.startswith("fc.")}, folder / "imagenet.safetensors")
    return folder


def train(workplace: Path, out: Path):
    data = ("--images", workplace / "images", "--labels", workplace / "labels.csv")
    val = ("--val-images", workplace / "images", "--val-labels", workplace / "labels.csv")
    how = ("--weights", workplace / "imagenet.safetensors", "--recipe", workplace / "recipe.toml")
    arguments = ("train", *data, *val, *how, "--name", "little", "--version", "7", "--out", out)
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def run_folder(workplace) -> Path:
    done = train(workplace, workplace / "run")
    assert done.exit_code == 0, done.output
    return workplace / "run"


def test_training_writes_a_bundle_that_a_worker_loads(run_folder):
    model = load_model(run_folder / "bundle", torch.device("cpu"))
    assert (model.manifest.name, model.manifest.version) == ("little", "7")
    assert {point.name for point in model.manifest.operating_points} == {"screening", "balanced"}
    assert "decides nothing alone" in model.card
    assert (run_folder / "bundle" / "weights.safetensors").stat().st_size < 50e6


def test_training_keeps_a_history_of_every_epoch(run_folder):
    lines = (run_folder / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,train_loss")
    assert len(lines) == 3


def test_a_run_that_was_killed_goes_on_from_its_last_epoch_to_the_same_weights(workplace, run_folder, tmp_path):
    recipe = read_recipe(str(workplace / "recipe.toml"))
    dataset, val = (
        read_isic(workplace / "images", workplace / "labels.csv", side)
        for side in (recipe.source_side, recipe.input_side)
    )
    epoch_2_begins = len(dataset) // recipe.batch_size + 1

    class Killed(Exception):
        pass

    def kill(step: int, total: int) -> None:
        if step == epoch_2_begins:
            raise Killed

    def fine_tuning() -> FineTuning:
        return FineTuning(recipe, workplace / "imagenet.safetensors", tmp_path, len(dataset))

    with pytest.raises(Killed):
        fine_tuning().run(dataset, val, kill)
    steps = []
    resumed = fine_tuning()
    resumed.run(dataset, val, lambda step, total: steps.append(step))
    assert min(steps) == epoch_2_begins - 1
    uninterrupted = torch.load(run_folder / "checkpoint.pt", weights_only=True)
    assert [epoch.epoch for epoch in resumed.history] == [1, 2]
    for name, value in resumed.network.state_dict().items():
        torch.testing.assert_close(value, uninterrupted["network"][name], rtol=1e-3, atol=1e-4)


def test_stride_two_sits_where_the_imagenet_weights_expect_it(workplace):
    network = LesionNetwork()
    load_imagenet_weights(network, workplace / "imagenet.safetensors")
    first_of_layer_2 = network.features[5][0]
    assert (first_of_layer_2.conv1.stride, first_of_layer_2.conv2.stride) == ((2, 2), (1, 1))


def test_augmentation_is_the_same_for_the_same_seed_and_stays_in_range(workplace):
    recipe = read_recipe(str(workplace / "recipe.toml"))
    pixels = torch.randint(0, 256, (3, 48, 48, 3), dtype=torch.uint8)
    one, same, other = (
        augment(pixels, 32, recipe.augmentation, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert one.shape == (3, 3, 32, 32)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 1


def test_an_unknown_recipe_is_answered_with_those_that_there_are():
    with pytest.raises(ConfigurationInvalid, match="default"):
        read_recipe("nonsense")


def test_a_recipe_with_an_unknown_field_is_refused(tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE.replace("seed = 1", "sead = 1"))
    with pytest.raises(ConfigurationInvalid, match="sead"):
        read_recipe(str(tmp_path / "r.toml"))
