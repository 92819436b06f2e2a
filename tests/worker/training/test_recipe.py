"""Recipes are read, changed, and refused with a message."""

import pytest
import torch

from shared.errors import InputUnusable
from worker.network import normalise
from worker.training.recipe import RECIPES, read_recipe


@pytest.mark.parametrize("name", [file.stem for file in RECIPES.glob("*.toml")])
def test_every_shipped_recipe_can_be_read(name):
    assert read_recipe(name).network == ("efficientnet-lite0" if name == "portable" else "resnet50-v1")


def test_a_network_gets_what_its_imagenet_weights_were_trained_with():
    pixels = torch.tensor([0, 127, 255], dtype=torch.uint8).expand(1, 1, 1, 3)
    light = normalise(pixels, read_recipe("portable").preprocessing).flatten().tolist()
    assert light == pytest.approx([-127 / 128, 0, 1], abs=1e-6)
    servers = normalise(pixels, read_recipe("default").preprocessing).flatten().tolist()
    assert servers == pytest.approx([-0.485 / 0.229, (127 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225], abs=1e-6)


def test_the_papers_recipe_is_taken_literally():
    recipe = read_recipe("paper")
    assert (recipe.input_side, recipe.preprocessing.normalisation) == (224, "image-mean")
    assert recipe.preprocessing.std == (1.0, 1.0, 1.0)
    assert not any(recipe.loss.model_dump().values())
    assert {name for name, value in recipe.augmentation.model_dump().items() if value} == {"rotation_deg"}


def test_single_values_can_be_changed_even_those_in_a_table():
    recipe = read_recipe("paper", ["epochs=3", "loss.mixup_alpha=0.4", "augmentation.cutout=0.1", 'target="diagnosis"'])
    assert (recipe.epochs, recipe.loss.mixup_alpha, recipe.target) == (3, 0.4, "diagnosis")
    assert (recipe.augmentation.cutout, recipe.augmentation.rotation_deg) == (0.1, 180)


def test_what_a_recipe_does_not_name_is_as_in_the_one_that_it_is_based_on(tmp_path):
    file, base = tmp_path / "mine.toml", read_recipe("default")
    file.write_text('based_on = "default"\nepochs = 5\n\n[loss]\nmixup_alpha = 0\n')
    loss = base.loss.model_copy(update={"mixup_alpha": 0})
    assert read_recipe(str(file)) == base.model_copy(update={"epochs": 5, "loss": loss})
    assert read_recipe(str(file), ["epochs=6"]).epochs == 6
    file.write_text('based_on = "defualt"')
    with pytest.raises(InputUnusable, match="No recipe 'defualt'; shipped: attend, default"):
        read_recipe(str(file))


def test_a_support_vector_machine_has_neither_epochs_nor_augmentation():
    assert read_recipe("svm", ["penalty=10"]).penalty == 10
    with pytest.raises(InputUnusable, match="epochs: Extra"):
        read_recipe("svm", ["epochs=3"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("sead=1", "sead: Extra"),
        ("epochs=0", "epochs: .*greater"),
        ("loss.focal=1", r"loss\.focal"),
        ("input_side=100", "input_side: .*multiple of 32"),
        ("epochs", "'epochs' is no KEY=VALUE"),
        ("network=efficientnet-lite0", "needs quotes"),
        ("seed.x=1", "seed: .*integer"),
        ("loss=1", "loss: "),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(change, named):
    with pytest.raises(InputUnusable, match=named):
        read_recipe("default", [change])


def test_an_unknown_recipe_is_answered_with_those_that_there_are():
    with pytest.raises(InputUnusable, match="default, paper, portable, pretrain, svm"):
        read_recipe("nonsense")
