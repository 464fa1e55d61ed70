"""Batches and checkpoints, without a whole training around them."""

import os
from pathlib import Path

import numpy as np
import pytest

from conftest import TINY
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import prepare
from hf_ela.errors import RunError
from hf_ela.recipes.loading import load_recipe
from hf_ela.training.fit import Batches, Checkpoint

RECIPE = load_recipe("default", TINY)


@pytest.fixture
def split(tiny, cache):
    return prepare(DataOptions(source=str(tiny), num_proc=1), RECIPE).train


def epoch(batches: Batches, number: int) -> tuple[np.ndarray, np.ndarray, list[set[int]]]:
    batches.draw(number)
    parts = [batches[i] for i in range(len(batches))]
    classes = [set(y[:, 0].astype(int).tolist()) for _, y in parts]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]), classes


def test_rows_sorted_by_class_give_no_batches_of_one_class(split) -> None:
    assert np.abs(np.diff(split.labels)).sum() == 1  # as the dataset is: one class, then the other
    batches = Batches(split, "augmented", RECIPE, seed=0)
    for number in range(5):
        *_, classes = epoch(batches, number)
        assert all(found == {0, 1} for found in classes)


def test_an_epoch_holds_every_image_once_and_hangs_on_its_number_alone(split) -> None:
    batches = Batches(split, "augmented", RECIPE, seed=3)
    x, y, _ = epoch(batches, 7)
    assert len(x) == len(split)
    assert y[:, 0].sum() == split.labels.sum()
    other, *_ = epoch(batches, 8)
    assert not np.array_equal(x, other)
    again, *_ = epoch(Batches(split, "augmented", RECIPE, seed=3), 7)
    assert np.array_equal(x, again)
    # Each is one of an image's views, perhaps flipped.
    known = {
        np.flip(view, axes).tobytes()
        for row in split.rows
        for view in split.store.views("augmented", int(row))
        for axes in ((), 1)
    }
    assert all(view.tobytes() in known for view in x)
    assert len({view.tobytes() for view in x}) == len(x)


def test_validation_sees_every_view_in_order_and_unchanged(split) -> None:
    x, y, _ = epoch(Batches(split, "aligned", RECIPE, seed=None), 0)
    expected = np.concatenate(list(split.views("aligned")))
    assert np.array_equal(x, expected)
    assert np.array_equal(y[:, 0], split.labels)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_an_epoch_does_not_grow_the_process(tiny, cache) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    recipe = load_recipe("default", ["augmentation.views=40", "training.batch_size=1"])
    train = prepare(DataOptions(source=str(tiny), num_proc=1), recipe).train
    before = resident()
    for row in train.rows:
        train.store.views("augmented", int(row)).sum()
    assert resident() - before > 50e6  # views of 147 KB, 40 an image, are there
    batches = Batches(train, "augmented", recipe, seed=0)
    for number in range(40):
        epoch_size = sum(batches[i][0].nbytes for i in range(len(batches)))
        batches.draw(number)
    assert 40 * epoch_size > 50e6  # as much was read again
    assert resident() - before < 40e6


def test_a_diverged_training_is_said_and_the_state_before_it_kept(tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path, RECIPE.training.early_stopping, seed=0)
    with pytest.raises(RunError, match=r"val_loss=nan in epoch 3.*learning_rate"):
        checkpoint.on_epoch_end(2, {"loss": 0.5, "val_loss": float("nan")})
    assert not list(tmp_path.iterdir())
