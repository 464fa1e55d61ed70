"""What `benchmarks/ideas.py` feeds a training with; the fakes of `benchmarks/autoencoder.py`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import TINY
from hf_ela.data import prepare
from hf_ela.fit import Batches
from hf_ela.recipe_file import load_recipe
from hf_ela.source import DataOptions

RECIPE = load_recipe("default", TINY)


@pytest.fixture
def split(tiny, cache):
    return prepare(DataOptions(source=str(tiny), num_proc=1), RECIPE).train


@pytest.fixture
def ideas(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    import ideas

    return ideas


def epoch(batches):
    """Return views and the share of fake in each."""
    parts = [batches[i] for i in range(len(batches))]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def test_mixup_mixes_labels_as_it_mixes_pixels(split, ideas):
    plain, labels = epoch(Batches(split, "augmented", RECIPE, seed=0))
    mixed, shares = epoch(ideas.Mixup(split, "augmented", RECIPE, seed=0))
    assert np.allclose(shares.sum(axis=1), 1)
    changed = (shares != labels).any(axis=1)
    assert changed.any()
    for number in np.flatnonzero(changed):
        # The other image is of the other class: so the label says how much there is of this one.
        share = float(labels[number] @ shares[number])
        other = (mixed[number] - share * plain[number]) / (1 - share)
        far = min(np.abs(other - one).max() for one in plain)
        assert far <= 0.5 / (1 - share) + 1e-3  # of rounding


def test_mixup_leaves_validation_as_it_is(split, ideas):
    kinds = (Batches, ideas.Mixup)
    plain, mixed = (epoch(kind(split, "aligned", RECIPE, seed=None)) for kind in kinds)
    assert np.array_equal(plain[0], mixed[0])
    assert np.array_equal(plain[1], mixed[1])


def test_sources_are_balanced_within_a_class(split, ideas):
    few = [row["file_name"] for row in split.facts if row["label"]][:2]

    def source(name):
        return "few" if name in few else "many"

    made = ideas.BalancedSources(split, "augmented", RECIPE, seed=0, source=source)
    names = np.array([row["file_name"] for row in split.facts])
    drawn = []
    for number in range(200):
        made.draw(number)
        drawn.append(names[made._images])
    drawn = np.concatenate(drawn)
    fakes = np.char.find(drawn, "/fake/") >= 0
    # Of 200 epochs of 24 images; four standard deviations of a share of half are .03 or less.
    assert np.isclose(fakes.mean(), 0.5, atol=0.03)
    assert np.isclose(np.isin(drawn[fakes], few).mean(), 0.5, atol=0.045)


@pytest.fixture
def averaged(split, ideas, monkeypatch):
    """Train with averages of the weights; `kind` watches or disturbs."""
    from hf_ela import fit

    optimizer = fit._optimizer
    monkeypatch.setattr(fit, "_optimizer", lambda *given: ideas.averaging(optimizer(*given)))

    def run(folder, kind=ideas.Averaged):
        monkeypatch.setattr(fit, "Checkpoint", kind)
        return fit.fit(load_recipe("default", [*TINY, "training.epochs=3"]), split, split, folder)

    return run


def test_weights_are_averaged_over_steps(split, ideas, averaged, tmp_path):
    steps, validated = [], []

    class Watching(ideas.Averaged):
        def on_train_batch_end(self, batch, logs=None):
            steps.append([np.array(weight) for weight in self.model.trainable_variables])

        def on_test_begin(self, logs=None):
            super().on_test_begin(logs)
            validated.append([np.array(weight) for weight in self.model.trainable_variables])

    model, checkpoint = averaged(tmp_path, Watching)
    found = steps[0]
    averages = []
    for weights in steps:
        found = [0.99 * a + 0.01 * w for a, w in zip(found, weights, strict=True)]
        averages.append(found)
    per_epoch = len(steps) // 3
    for epoch in range(3):
        pairs = zip(validated[epoch], averages[(epoch + 1) * per_epoch - 1], strict=True)
        assert all(np.allclose(a, b, atol=1e-6) for a, b in pairs)
    pairs = zip(model.trainable_variables, validated[checkpoint.best_epoch], strict=True)
    assert all(np.array_equal(np.asarray(weight), one) for weight, one in pairs)
    assert not np.allclose(validated[-1][0], steps[-1][0], atol=1e-4)


def test_an_interrupted_average_goes_on_in_the_same_bits(ideas, averaged, tmp_path):
    class Interrupted(ideas.Averaged):
        def on_train_batch_end(self, batch, logs=None):
            if self.epochs == 2:
                raise KeyboardInterrupt

    whole, checkpoint = averaged(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        averaged(tmp_path / "cut", Interrupted)
    resumed, again = averaged(tmp_path / "cut")
    assert again.history == checkpoint.history
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_fakes_of_an_autoencoder_join_the_fakes(split, ideas, tiny, tmp_path):
    import autoencoder

    real = [row["file_name"] for row in split.facts if not row["label"]]
    originals = [tiny / name for name in real]
    small = tmp_path / "small.png"
    Image.new("RGB", (63, 90)).save(small)
    made = tmp_path / "made"
    made.mkdir()
    views = autoencoder.views_of_fakes([*originals, small], RECIPE, steps=2, folder=made)
    assert views.shape == (len(real), 2, *RECIPE.input_shape)
    assert {path.stem for path in made.glob("*.png")} == {path.stem for path in originals}
    x, y = epoch(ideas.WithFakes(split, "augmented", RECIPE, seed=0, fakes=views))
    plain, labels = epoch(Batches(split, "augmented", RECIPE, seed=0))
    assert len(x) == len(plain) + len(real)
    assert y[:, 0].sum() == labels[:, 0].sum() + len(real)
    known = {np.flip(view, axes).tobytes() for one in views for view in one for axes in ((), 1)}
    fakes = {bool(fake) for one, (fake, _) in zip(x, y, strict=True) if one.tobytes() in known}
    assert fakes == {True}
    # Each decoder has made a third of them.
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in originals]
    for seed, upsampler in enumerate(autoencoder.UPSAMPLERS):
        model = autoencoder.trained(upsampler, pictures, seed, steps=2)
        for path, picture in list(zip(originals, pictures, strict=True))[seed::3]:
            fake = np.asarray(Image.open(made / f"{path.stem}.png"))
            assert np.abs(autoencoder.remade(model, picture) - fake.astype(int)).max() <= 1
    # They are made once.
    before = (made / "views.npy").stat().st_mtime_ns
    autoencoder.views_of_fakes(originals, RECIPE, steps=2, folder=made)
    assert (made / "views.npy").stat().st_mtime_ns == before


def test_an_autoencoder_makes_detail_where_it_is_lost(ideas):
    import autoencoder

    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    model = autoencoder.trained("nearest", [noise], 0, steps=150)
    made = autoencoder.remade(model, noise)

    def detail(pixels):
        return np.abs(np.diff(pixels.astype(int), axis=1)).mean()

    # Noise does not fit through the latent. By the error of pixels alone .3 of the detail is left.
    assert detail(made) > 0.6 * detail(noise)


@pytest.mark.slow
def test_an_autoencoder_learns_to_remake_a_picture(ideas):
    import autoencoder

    y, x = np.mgrid[:96, :70]
    picture = np.stack([2 * y, 3 * x, 255 - y - x], axis=2).astype(np.uint8)

    def error(model):
        made = autoencoder.remade(model, picture)
        assert (made.shape, made.dtype) == ((96, 68, 3), np.uint8)
        return np.abs(made.astype(int) - picture[:, :68]).mean()

    for upsampler in autoencoder.UPSAMPLERS:
        untrained = error(autoencoder.autoencoder(upsampler))
        assert error(autoencoder.trained(upsampler, [picture], 0, steps=60)) < untrained / 1.5
