"""Batches, fits and checkpoints, without a whole training around them."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from conftest import TINY
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import Split, prepare
from hf_ela.errors import RunError
from hf_ela.recipes.loading import load_recipe
from hf_ela.recipes.schema import Recipe
from hf_ela.training.fit import Batches, Checkpoint, fit

RECIPE = load_recipe("scratch", TINY)


@pytest.fixture(scope="module")
def split(tiny, tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return prepare(DataOptions(source=str(tiny), num_proc=1, cache_dir=cache), RECIPE).train


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


def test_batches_made_ahead_are_of_their_own_epoch(split) -> None:
    left, fresh = (Batches(split, "augmented", RECIPE, seed=3) for _ in range(2))
    left.draw(1)
    first = left[0][0]  # the others of this epoch are made too
    assert np.array_equal(first, epoch(fresh, 1)[0][: len(first)])
    assert np.array_equal(epoch(left, 2)[0], epoch(fresh, 2)[0])


def test_few_large_batches_are_made_ahead(split, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setattr("hf_ela.training.batches.AHEAD", 1)
    assert Batches(split, "augmented", RECIPE, seed=3).ahead == 1
    monkeypatch.setattr("hf_ela.training.batches.AHEAD", 2**28)
    assert Batches(split, "augmented", RECIPE, seed=3).ahead == 4


def test_validation_sees_every_view_in_order_and_unchanged(split) -> None:
    x, y, _ = epoch(Batches(split, "aligned", RECIPE, seed=None), 0)
    expected = np.concatenate(list(split.views("aligned")))
    assert np.array_equal(x, expected)
    assert np.array_equal(y[:, 0], split.labels)


@pytest.mark.second_lane
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_an_epoch_does_not_grow_the_process(tiny, tmp_path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    recipe = load_recipe("scratch", ["augmentation.views=20", "training.batch_size=1"])
    options = DataOptions(source=str(tiny), num_proc=1, cache_dir=str(tmp_path))
    train = prepare(options, recipe).train
    before = resident()
    for row in train.rows:
        train.store.views("augmented", int(row)).sum()
    assert resident() - before > 25e6  # views of 147 KB, 20 an image, are there
    batches = Batches(train, "augmented", recipe, seed=0)
    for number in range(20):
        epoch_size = sum(batches[i][0].nbytes for i in range(len(batches)))
        batches.draw(number)
    assert 20 * epoch_size > 25e6  # as much was read again
    assert resident() - before < 20e6


# ---------------------------------------------------------------------------------- on arrays


class Views:
    """Stands in for an `ElaStore`: random views in memory, darker for fake ones."""

    def __init__(self, images: int, recipe: Recipe, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.facts = [{"label": number % 2} for number in range(images)]
        self._views = rng.integers(0, 256, (images, 2, *recipe.input_shape), np.uint8)
        self._views[1::2] //= 2
        self.left = 10**9

    def views(self, view_set: str, row: int, chosen: slice) -> np.ndarray:
        self.left -= 1
        if self.left <= 0:
            raise OSError("the disk is gone")
        return self._views[row][chosen]

    def release(self) -> None:
        """Nothing is mapped."""


def published(*overrides: str) -> Recipe:
    """The published network on small images: it is quick to build."""
    small = ["input.before=48", "input.size=32", "training.batch_size=8", "training.epochs=6"]
    return load_recipe("reference", [*small, "training.early_stopping.patience=9", *overrides])


def fitted(recipe: Recipe, folder: Path, interrupt: int = 0, events: Path | None = None):
    """Fit to 16 images and validate on 8; fail after so many drawn views."""
    views = Views(16, recipe, seed=0)
    train, held = Split(views, np.arange(16)), Split(Views(8, recipe, seed=1), np.arange(8))
    views.left = interrupt or 10**9
    return fit(recipe, train, held, folder, events=events)


def same(one, other) -> bool:
    return all(map(np.array_equal, one.get_weights(), other.get_weights()))


def test_an_interrupted_fit_ends_in_the_same_bits(tmp_path) -> None:
    """RMSprop at a constant rate, and dropout; a whole run in `test_training` has the rest."""
    recipe = published()
    whole, expected = fitted(recipe, tmp_path / "whole")
    with pytest.raises(Exception, match="the disk is gone"):  # each backend wraps it in its own
        fitted(recipe, tmp_path / "cut", interrupt=2 + 3 * 16 + 9)
    assert 0 < Checkpoint(tmp_path / "cut", recipe.training.early_stopping, 9).epochs < 6
    resumed, found = fitted(recipe, tmp_path / "cut")
    assert same(resumed, whole)
    assert found.history == expected.history
    assert (found.epochs, found.best_epoch) == (expected.epochs, expected.best_epoch)


def test_a_tracked_fit_is_one_event_file_also_after_an_interruption(tmp_path) -> None:
    pytest.importorskip("tensorboardX")
    read = pytest.importorskip("tensorflow").compat.v1.train.summary_iterator  # not by its writer
    events = tmp_path / "events"

    def written() -> dict[str, list[float]]:
        (path,) = events.glob("*tfevents*")
        found: dict[str, list[float]] = {}
        for event in read(str(path)):
            for value in event.summary.value:
                steps = found.setdefault(value.tag, [])
                assert event.step == len(steps)
                steps.append(value.simple_value)
        return found

    recipe = published("training.epochs=4")
    with pytest.raises(Exception, match="the disk is gone"):
        fitted(recipe, tmp_path, interrupt=2 + 2 * 16 + 9, events=events)
    assert 0 < len(written()["loss/train"]) < 4
    _, checkpoint = fitted(recipe, tmp_path, events=events)
    expected = checkpoint.history
    assert {tag: len(values) for tag, values in written().items()} == dict.fromkeys(
        ("loss/train", "accuracy/train", "loss/validation", "accuracy/validation"), 4
    )
    assert written()["loss/validation"] == pytest.approx(expected["val_loss"])
    assert written()["accuracy/train"] == pytest.approx(expected["accuracy"])


def test_one_interrupt_suffices_where_it_is_swallowed(tmp_path, monkeypatch) -> None:
    """As TensorFlow does while it traces a function."""
    draw = Batches.draw

    def swallow(self: Batches, number: int) -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        draw(self, number)

    monkeypatch.setattr(Batches, "draw", swallow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fitted(published(), tmp_path)
        assert not (tmp_path / "state.json").exists()  # in the first epoch
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_seed_decides_the_weights(tmp_path) -> None:
    first, _ = fitted(published("training.epochs=1"), tmp_path / "a")
    again, _ = fitted(published("training.epochs=1"), tmp_path / "b")
    other, _ = fitted(published("training.epochs=1", "training.seed=10"), tmp_path / "c")
    order, _ = fitted(published("training.epochs=1", "training.order_seed=10"), tmp_path / "d")
    assert same(first, again)
    assert not same(first, other)
    assert not same(first, order)


def test_early_stopping_keeps_the_best_epoch(tmp_path) -> None:
    stopping = "training.early_stopping."
    recipe = published(
        f"{stopping}monitor=val_loss", f"{stopping}patience=2", f"{stopping}restore_best=true",
        "training.epochs=30", "training.learning_rate=0.05",
    )  # fmt: skip
    model, checkpoint = fitted(recipe, tmp_path)
    losses = checkpoint.history["val_loss"]
    assert checkpoint.best_epoch == int(np.argmin(losses))
    assert checkpoint.epochs == len(losses) == checkpoint.best_epoch + 3 < 30
    held = Batches(Split(Views(8, recipe, seed=1), np.arange(8)), "as_is", recipe, seed=None)
    model.compile(loss="categorical_crossentropy")
    assert model.evaluate(held, verbose=0) == pytest.approx(min(losses), rel=1e-4)


def test_a_diverged_training_is_said_and_the_state_before_it_kept(tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path, RECIPE.training.early_stopping, seed=0)
    with pytest.raises(RunError, match=r"diverged: val_loss=nan in epoch 3.*learning_rate"):
        checkpoint.on_epoch_end(2, {"loss": 0.5, "val_loss": float("nan")})
    assert not list(tmp_path.iterdir())
