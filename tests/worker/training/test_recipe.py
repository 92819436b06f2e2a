"""Recipes are read, changed and refused with a sentence."""

import pytest

from shared.errors import ConfigurationInvalid
from worker.training.recipe import RECIPES, read_recipe


@pytest.mark.parametrize("name", [file.stem for file in RECIPES.glob("*.toml")])
def test_every_shipped_recipe_can_be_read(name):
    assert read_recipe(name).network == "resnet50-v1"


def test_the_papers_recipe_is_taken_literally():
    recipe = read_recipe("paper")
    assert (recipe.input_side, recipe.preprocessing.normalisation) == (224, "image-mean")
    assert recipe.preprocessing.std == (1.0, 1.0, 1.0)
    assert not any(recipe.loss.model_dump().values())
    assert {name for name, value in recipe.augmentation.model_dump().items() if value} == {"rotation_deg"}


def test_single_values_can_be_changed_also_those_in_a_table():
    recipe = read_recipe("paper", ["epochs=3", "loss.mixup_alpha=0.4", "augmentation.cutout=0.1", 'target="diagnosis"'])
    assert (recipe.epochs, recipe.loss.mixup_alpha, recipe.target) == (3, 0.4, "diagnosis")
    assert (recipe.augmentation.cutout, recipe.augmentation.rotation_deg) == (0.1, 180)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("sead=1", "sead: Extra"),
        ("epochs=0", "epochs: .*greater"),
        ("loss.focal=1", r"loss\.focal"),
        ("input_side=100", "input_side: .*multiple of 32"),
        ("epochs", "change to it"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(change, named):
    with pytest.raises(ConfigurationInvalid, match=named):
        read_recipe("default", [change])


def test_an_unknown_recipe_is_answered_with_those_that_there_are():
    with pytest.raises(ConfigurationInvalid, match="default, paper, pretrain, student"):
        read_recipe("nonsense")
