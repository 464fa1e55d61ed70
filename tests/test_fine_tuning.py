"""Trainings that start from a saved model, and what they refuse."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from conftest import CHEAP, linked_copy, write_flat
from hf_ela import ElaClassifier
from hf_ela.data.loading import DataOptions
from hf_ela.errors import RecipeError, RunError
from hf_ela.hub.card import make_card
from hf_ela.recipes.loading import load_recipe
from hf_ela.run_record import Run, read_run
from hf_ela.training import Initial, reproduce, train
from hf_ela.training.fit import Checkpoint

ID = "somebody/ela"
FEW = ["training.epochs=3", "training.batch_size=4"]


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """A user's folder: ten images of each class, without splits and without groups."""
    return write_flat(tmp_path_factory.mktemp("data") / "mine", 10)


@pytest.fixture(scope="module")
def reading(tmp_path_factory) -> dict[str, Any]:
    return {"num_proc": 1, "cache_dir": str(tmp_path_factory.mktemp("cache"))}


def tuned(model: Path, data: Path, out: Path, reading: dict[str, Any], *overrides: str) -> Run:
    initial = Initial.load(str(model))
    recipe = initial.recipe([*FEW, *overrides])
    options = DataOptions(str(data), **reading)
    return train(recipe, options, out, initial=initial, say=lambda line: None, **CHEAP)


@pytest.fixture(scope="module")
def run(tiny_run, mine, reading, tmp_path_factory) -> Path:
    """A fine-tuning from a folder."""
    out = tmp_path_factory.mktemp("runs") / "run"
    tuned(tiny_run, mine, out, reading)
    return out


def weights(folder: Path) -> list[np.ndarray]:
    return ElaClassifier.from_pretrained(folder, runtime="keras").model.get_weights()


def test_it_starts_from_the_weights_and_changes_them_little(tiny_run, run) -> None:
    before, after = weights(tiny_run), weights(run)
    moved = [np.abs(a - b).max() for a, b in zip(before, after, strict=True)]
    assert 0 < max(moved) < 0.05
    network = ElaClassifier.from_pretrained(run, runtime="keras").model
    kept = [layer.name for layer in network.layers if "normalization" in layer.name]
    names = [weight.path.partition("/")[0] for weight in network.weights]
    assert kept
    assert not any(moved[i] for i, name in enumerate(names) if name in kept)


def test_few_images_make_whole_splits_and_keep_the_calibration(tiny_run, run) -> None:
    found, model = read_run(run), ElaClassifier.from_pretrained(tiny_run)
    sizes = {name: split.n for name, split in found.data.splits.items()}
    assert sizes["test"] >= 4
    assert sizes["validation"] >= 2
    assert sum(sizes.values()) == 20
    kept = found.calibration
    assert kept.kept
    assert (kept.temperature, kept.threshold) == (model.temperature, model.threshold)
    assert (kept.bias, kept.uncertain, kept.false_alarms) == (0, model.uncertain, None)
    card = (run / "README.md").read_text("utf-8")
    assert "uncertain scores are those of the model that training started from" in card
    assert "chosen on the validation split" not in card
    assert "a local model, `tiny-run`" in card
    assert "--from MODEL" in card
    assert "base_model" not in card
    assert str(tiny_run) not in card + (run / "run.json").read_text()


def test_the_command_calibrates_on_enough_images(
    tiny_run, mine, reading, tmp_path, command, monkeypatch
) -> None:
    monkeypatch.setattr("hf_ela.training.results.ENOUGH", 1)
    monkeypatch.setattr("hf_ela.training.trainer.train", partial(train, **CHEAP))
    words = [word for override in FEW for word in ("--set", override)]
    words += ["--data", mine, "--cache-dir", reading["cache_dir"], "--num-proc", 1]
    said = command(f"train --from {tiny_run} --out {tmp_path}/run", *words).out
    assert f"from {tiny_run.name} on 13 images" in said
    found, model = read_run(tmp_path / "run"), ElaClassifier.from_pretrained(tiny_run)
    assert not found.calibration.kept
    assert found.calibration.false_alarms
    assert found.calibration.threshold != model.threshold


def test_a_fine_tuning_is_resumed_and_reproduced_to_the_same_bits(
    tiny_run, run, mine, reading, tmp_path, monkeypatch
) -> None:
    again = partial(reproduce, str(run), tmp_path / "again", data=str(mine), **reading, **CHEAP)
    write = Checkpoint.write

    def interrupt(checkpoint: Checkpoint) -> None:
        write(checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(Checkpoint, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            again(initial=str(tiny_run))
    found = again(initial=str(tiny_run))
    assert all(row.reproduced["value"] == row.recorded["value"] for row in found.rows)
    assert all(map(np.array_equal, weights(tmp_path / "again"), weights(run)))


def test_a_release_is_recorded_by_its_commit(hub, tiny_run, run) -> None:
    release = hub.add_model(ID, {p.name: p.read_bytes() for p in (tiny_run / "weights").iterdir()})
    release.tag("v1")
    initial = Initial.load(ID, "v1")
    sha256 = Initial.load(str(tiny_run)).sha256
    record = {"id": ID, "revision": release.find("v1").sha, "sha256": sha256}
    assert initial.record == record
    release.commit({"hf_ela.json": b"{}"})  # main is another model by now
    found = Run.model_validate_json(json.dumps(read_run(run).content() | {"initial": record}))
    assert Initial.recorded(found.initial, None) == initial
    _, text, card = make_card(found.content()).split("---\n", 2)
    metadata = yaml.safe_load(text)
    assert (metadata["base_model"], metadata["base_model_relation"]) == (ID, "finetune")
    assert f"[somebody/ela](https://huggingface.co/{ID}/tree/{record['revision']})" in card
    assert "--from MODEL" not in card


def test_a_start_that_is_gone_or_another_is_said(
    tiny_run, saved_crops, run, mine, reading, tmp_path
) -> None:
    def again(model: Path | None = None) -> None:
        reproduce(str(run), tmp_path / "out", data=str(mine), initial=model, **reading, **CHEAP)

    with pytest.raises(RunError, match=r"from a local model, 'tiny-run'.*as `initial`"):
        again()
    with pytest.raises(RunError, match="Received: saved-crops with"):
        again(str(saved_crops))
    model = linked_copy(tiny_run / "weights", tmp_path / "model")

    def stop(line: str) -> None:
        if line.startswith("Training"):
            raise KeyboardInterrupt

    initial, options = Initial.load(str(model)), DataOptions(str(mine), **reading)
    recipe, out = initial.recipe(FEW), tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, options, out, initial=initial, say=stop, **CHEAP)
    with pytest.raises(RunError, match="settings differ"):
        train(recipe, options, out, initial=Initial.load(str(tiny_run)), resume=True, **CHEAP)
    for file in saved_crops.iterdir():
        (model / file.name).unlink(missing_ok=True)
        (model / file.name).write_bytes(file.read_bytes())
    with pytest.raises(RunError, match="Restore the model that it started from"):
        train(recipe, options, out, resume=True, **CHEAP)


def test_the_packaged_model_can_be_named(mine) -> None:
    initial = Initial.load("pretrained")
    assert initial.record["id"] == "pretrained"
    recipe = initial.recipe(["input.grid=1", "network.dropout=0.1", "training.epochs=2"])
    assert recipe.network.kind == initial.settings.recipe.network.kind
    assert (recipe.input.grid, recipe.training.epochs) == (1, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--recipe scratch", "Leave out --recipe"),
        (
            "--set network.patch=8",
            "Received: network.patch=8. Leave it out, or train anew, without --from",
        ),
        ("--set ela.qualities=[50]", "Received: ela.qualities=[50]."),
        ("--set ela=none --set training.epochs=3", "Received: ela=none."),
        ("--set input.size=64", "Received: input.size=64."),
        ("--set training.epoch=3", "`training.epochs`"),
    ],
)
def test_what_does_not_fit_is_one_line(tiny_run, mine, tmp_path, command, words, message) -> None:
    out = tmp_path / "runs/one"
    typed = f"train --from {tiny_run} --data {mine} --out {out} {words}"
    (line,) = command(typed, status=2).err.splitlines()
    assert message in line
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere", "Received: 'nowhere', but no such folder exists"),
        ("somebody/ela@", "after the @"),
        ("somebody/nothing", "does not exist"),
        (Path(__file__).parent, "without it"),
    ],
)
def test_what_is_no_model_is_one_line(hub, mine, tmp_path, command, model, message) -> None:
    (line,) = command(
        f"train --from {model} --data {mine} --out {tmp_path}/run", status=2
    ).err.splitlines()
    assert message in line


def test_a_recipe_of_another_network_is_refused(tiny_run, mine, tmp_path) -> None:
    initial = Initial.load(str(tiny_run))
    with pytest.raises(RecipeError, match="Received: ela, input, network"):
        train(load_recipe("reference"), DataOptions(str(mine)), tmp_path / "run", initial=initial)
