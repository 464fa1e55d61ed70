"""Recipes: the published one to the letter, overrides, and refusals that help."""

from importlib.resources import files

import pytest

from hf_ela.cli.options import parse_label_map
from hf_ela.errors import LabelError, RecipeError
from hf_ela.recipes.loading import built_in_recipes, known_keys, load_recipe
from hf_ela.recipes.schema import Recipe

NUMBERS = {"training.learning_rate": 5e-4, "training.batch_size": 100, "training.epochs": 22}


def value(recipe: Recipe, key: str):
    for part in key.split("."):
        recipe = getattr(recipe, part)
    return recipe


def test_built_in_recipes_are_valid_and_know_their_names() -> None:
    names = ["ela", "reference", "scratch", "transfer"]
    assert built_in_recipes() == names
    assert [load_recipe(name).name for name in names] == names


def test_reference_holds_the_published_numbers() -> None:
    recipe = load_recipe("reference")
    assert {key: value(recipe, key) for key in NUMBERS} == NUMBERS
    assert (recipe.ela.qualities, recipe.ela.gain, recipe.ela.signed) == ([90], "max", False)
    assert (recipe.input.before, recipe.input.size) == (256, 128)
    assert (recipe.validation.fraction, recipe.validation.seed) == (0.2, 59)
    stopping = {"monitor": "val_accuracy", "patience": 2, "restore_best": False}
    assert recipe.training.early_stopping.model_dump() == stopping


def test_overrides_of_every_kind() -> None:
    recipe = load_recipe(
        "scratch",
        ["training.epochs=3", "ela.qualities=[90]", "training.schedule=constant", "ela.gain = 2.5"],
    )
    assert load_recipe("scratch", ["validation.fraction=.3"]).validation.fraction == 0.3
    assert (recipe.training.epochs, recipe.ela.qualities) == (3, [90])
    assert (recipe.training.schedule, recipe.ela.gain) == ("constant", 2.5)
    assert load_recipe("scratch").training.epochs != 3


def test_a_recipe_survives_its_own_dump() -> None:
    recipe = load_recipe("scratch")
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_a_file_is_a_recipe_too(tmp_path) -> None:
    text = files("hf_ela.recipes").joinpath("reference.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace("epochs = 22", "epochs = 5"))
    assert load_recipe(tmp_path / "mine.toml").training.epochs == 5
    assert load_recipe(str(tmp_path / "mine.toml"), ["training.epochs=6"]).training.epochs == 6


def test_known_keys_reach_into_every_section() -> None:
    keys = set(known_keys())
    assert {"name", "training.early_stopping.patience", "network.widths", "input.before"} <= keys


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "`training.epochs`"),
        ("trainin.epochs=3", "`training.epochs`"),
        ("ela.quality=[90]", "`ela.qualities`"),
        ("zzz=1", "nearest valid one"),
        ("training.epochs", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("training.epochs=many", "`training.epochs`.*integer.*'many'"),
        ("training.epochs=0", "`training.epochs`.*greater than or equal to 1"),
        ("training.epochs=2.5", "`training.epochs`"),
        ("training.learning_rate=-1", "`training.learning_rate`"),
        ("ela.qualities=[0]", "1 to 100"),
        ("ela.qualities=[]", "`ela.qualities`"),
        ("ela.gain=0", "`ela.gain"),
        ("ela.gain=max", "absolute differences only"),
        ("input.kind=resize", "`input"),
        ("input.size=40", "`input.size`.*multiple of 16"),
        ("network.patch=5", "`input.size`.*multiple of"),
        ("augmentation.rescale=[2, 1]", "rescale"),
        ("augmentation.jpeg_quality=[90, 60]", "jpeg_quality"),
        ("training.early_stopping.monitor=loss", "val_accuracy"),
        ("training.optimizer=sgd", "rmsprop"),
    ],
)
def test_refusals_name_the_key_and_what_would_be_valid(override, message) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        load_recipe("scratch", [override])


def test_settings_that_cannot_work_together(tmp_path) -> None:
    with pytest.raises(RecipeError, match="native-resolution crops"):
        load_recipe("scratch", ['input={kind="resize", before=256, size=128, training="as_is"}'])


def test_no_such_recipe_lists_the_built_in_ones(tmp_path) -> None:
    nearest = {"scrach": "scratch", "Reference": "reference"}
    for wrong, near in nearest.items():
        with pytest.raises(
            RecipeError, match=rf"ela or reference or scratch.*{wrong}.*nearest.*`{near}`"
        ):
            load_recipe(wrong)
    with pytest.raises(RecipeError, match=r"my\.toml, which is neither\.$"):
        load_recipe("my.toml")
    (tmp_path / "bad.toml").write_text("name = [")
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_recipe(tmp_path / "bad.toml")
    (tmp_path / "half.toml").write_text('name = "half"\nextra = 1\n')
    with pytest.raises(RecipeError, match=r"(?s)missing.*unknown key `extra`"):
        load_recipe(tmp_path / "half.toml")


def test_sections_can_be_left_out_and_change_kind() -> None:
    assert load_recipe("scratch", ["augmentation=none"]).augmentation is None
    assert load_recipe("scratch", ["network.kind=reference"]).network.kind == "reference"
    with pytest.raises(RecipeError, match="does not belong to the kind"):
        load_recipe("scratch", ["network.kind=reference", "network.patch=4"])
    with pytest.raises(RecipeError, match="is a section"):
        load_recipe("scratch", ["ela=3", "ela.gain=1"])


def test_label_maps() -> None:
    assert parse_label_map("ai=fake, human=real") == {"ai": "fake", "human": "real"}
    for wrong in ("ai", "ai=0", "=fake", ""):
        with pytest.raises(LabelError, match="ai=fake,human=real"):
            parse_label_map(wrong)
