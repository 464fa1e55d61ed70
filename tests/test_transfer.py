"""Training on a frozen backbone: features computed once, heads that leave sources out."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import CHEAP, write_folder, write_groups
from hf_ela.classifier import ElaClassifier
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import prepare
from hf_ela.errors import DataError, RecipeError
from hf_ela.models.backbone import BACKBONE
from hf_ela.models.networks import add_bias
from hf_ela.recipes.loading import load_recipe
from hf_ela.run_record import Run
from hf_ela.training.batches import FEW, balanced_shares
from hf_ela.training.features import in_features
from hf_ela.training.fit import fit, initial_model
from hf_ela.training.initial import Initial
from hf_ela.training.left_out import score_left_out
from hf_ela.training.trainer import train

SMALL = [
    "input.size=64", "input.grid=1", "augmentation.views=2", "training.epochs=5",
    "training.batch_size=8", "validation.fraction=0.25",
]  # fmt: skip
LEAVING_OUT = [*SMALL, "calibration.left_out=part"]


@pytest.fixture(scope="module")
def contrary(tmp_path_factory) -> Path:
    """An imagefolder where every second image of train is in the folder of the other class."""
    folder = write_folder(tmp_path_factory.mktemp("data") / "contrary", train=16, test=4)
    for fake in (folder / "train/fake").glob("*.jpg"):
        real, kept = folder / "train/real" / fake.name, fake.read_bytes()
        fake.write_bytes(real.read_bytes())
        real.write_bytes(kept)
    return folder


@pytest.fixture(scope="module")
def groups(contrary, tmp_path_factory) -> Path:
    """Four sources, two of each class, in two parts: the images as they are, and the others."""

    def row(name: str) -> tuple[str, str, str]:
        kind, part = name.split("/")[1], "contrary" if name.endswith("jpg") else "plain"
        return name, f"{kind}-{part}", part

    path = tmp_path_factory.mktemp("groups") / "groups.csv"
    return write_groups(path, contrary, "group,source,part", row)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def reading(data: Path, groups: Path, cache: Path) -> DataOptions:
    return DataOptions(str(data), groups=str(groups), num_proc=1, cache_dir=str(cache))


def trained(data: Path, groups: Path, cache: Path, out: Path, *overrides: str, **how) -> Run:
    recipe, options = (
        load_recipe("transfer", [*LEAVING_OUT, *overrides]),
        reading(data, groups, cache),
    )
    return train(recipe, options, out, **(CHEAP | how), say=lambda line: None)


@pytest.fixture(scope="module")
def run(contrary, groups, cache, tmp_path_factory) -> tuple[Path, Run]:
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, trained(contrary, groups, cache, out)


@pytest.fixture(scope="module")
def published() -> Any:
    """The backbone that training starts from."""
    return initial_model(load_recipe("transfer", LEAVING_OUT)).get_layer(BACKBONE)


def test_every_image_is_scored_by_a_network_that_has_not_seen_its_part(run) -> None:
    """Each part says the contrary of the other: who knows only that one gets all of it wrong."""
    found = run[1].left_out
    sizes = run[1].content()["data"]["splits"]
    assert found["column"] == "part"
    assert set(found["parts"]) == {"as_is", "aligned"}
    known = sizes["train"]["n"] + sizes["validation"]["n"]
    sources = ["fake-contrary", "fake-plain", "real-contrary", "real-plain"]
    for protocol, parts in found["parts"].items():
        assert [part["part"] for part in parts] == ["contrary", "plain"]
        assert sum(part["fake"] + part["real"] for part in parts) == known
        assert found["metrics"][protocol]["roc_auc"]["n"] == known
        assert all(part["roc_auc"] < 0.3 for part in parts)
        assert all(max(part["recall_at_false_alarms"].values()) < 0.5 for part in parts)
        assert [row["source"] for row in found["sources"][protocol]] == sources


def test_the_answers_about_sources_left_out_are_kept(run) -> None:
    table = pd.read_parquet(run[0] / "predictions_left_out.parquet")
    wrong = (table["score_aligned"] >= 0.5) != (table["label"] == "fake")
    assert len(table) == run[1].left_out["metrics"]["aligned"]["roc_auc"]["n"]
    assert wrong.mean() > 0.7
    assert set(table["source"]) == {"fake-contrary", "fake-plain", "real-contrary", "real-plain"}


def test_a_threshold_is_kept_for_each_share_of_false_alarms(run) -> None:
    thresholds = run[1].calibration.false_alarms
    assert list(thresholds) == ["0.05", "0.02", "0.01"]
    assert list(thresholds.values()) == sorted(thresholds.values())
    for protocol, points in run[1].left_out["false_alarms"].items():
        n = run[1].left_out["metrics"][protocol]["roc_auc"]["n"]
        for share, point in points.items():
            assert point["recall"]["n"] + point["false_alarms"]["n"] == n
            assert point["false_alarms"]["value"] <= 2 * float(share)  # fitted on both protocols
    rows = (run[0] / "README.md").read_text("utf-8").splitlines()
    for share, threshold in zip(("5", "2", "1"), thresholds.values(), strict=True):
        (before, after) = (row for row in rows if row.startswith(f"| {share} % | "))
        assert before.split(" | ")[1] == after.split(" | ")[1]
        assert float(before.split(" | ")[1]) == pytest.approx(threshold, abs=0.001)


def test_the_card_begins_with_the_sources_left_out(run) -> None:
    card = (run[0] / "README.md").read_text("utf-8")
    first, second = card.index("### On unseen sources"), card.index("`fake-plain`")
    assert first < second < card.index("### On the test split")
    assert "chosen on sources left out" in card
    assert "validation split" not in card[first : card.index("## Reproduce")]


def test_a_second_training_takes_the_features_of_the_first(
    run, contrary, groups, cache, tmp_path
) -> None:
    """And ends in the same weights, and in the same answers about sources left out."""
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("features-*/*.npy")}
    recipe = load_recipe("transfer", LEAVING_OUT)
    data = prepare(reading(contrary, groups, cache), recipe)
    sources = data.groups.column(data.train.file_names, "source")
    model, _ = fit(recipe, data.train, data.validation, tmp_path, sources)
    again = score_left_out(recipe, data, model, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("features-*/*.npy")} == before
    assert before
    classifier = ElaClassifier.from_pretrained(run[0], runtime="keras")
    bias = run[1].calibration.bias
    add_bias(model, bias)
    assert all(map(np.array_equal, model.get_weights(), classifier.model.get_weights()))
    table = pd.read_parquet(run[0] / "predictions_left_out.parquet")
    scores = classifier.calibrated(again.logits["aligned"] + bias)
    np.testing.assert_array_equal(scores, table["score_aligned"])


def test_other_error_levels_take_the_same_pixels_and_features_of_their_own(
    run, contrary, groups, cache, published
) -> None:
    before = set(cache.rglob("features-*"))
    recipe = load_recipe("transfer", [*LEAVING_OUT, "ela.qualities=[30]"])
    data = prepare(reading(contrary, groups, cache), recipe)
    assert (data.computed, data.cached) == (0, sum(run[1].ela.values()))
    found = in_features(data.validation, "aligned", published, mirrored=False)
    assert len(set(cache.rglob("features-*")) - before) == 1  # those of pixels were there
    first = prepare(reading(contrary, groups, cache), load_recipe("transfer", LEAVING_OUT))
    there = in_features(first.validation, "aligned", published, mirrored=False)
    row = int(first.validation.rows[0])
    assert not np.array_equal(found.views_of("aligned", row), there.views_of("aligned", row))


def test_onnx_runtime_computes_the_same_features(
    contrary, groups, cache, published, monkeypatch
) -> None:
    recipe = load_recipe("transfer", LEAVING_OUT)
    split = prepare(reading(contrary, groups, cache), recipe).validation

    def computed() -> np.ndarray:
        before = set(cache.rglob("features-*"))
        found = in_features(split, "augmented", published, mirrored=False)
        for folder in set(cache.rglob("features-*")) - before:
            shutil.rmtree(folder)
        return np.stack([found.views_of("augmented", row) for row in split.rows.tolist()])

    by_keras = computed()
    monkeypatch.setattr("hf_ela.training.features.MANY", 1)
    by_onnx = computed()
    assert not np.array_equal(by_onnx, by_keras)
    np.testing.assert_allclose(by_onnx, by_keras, rtol=2e-3, atol=2e-3)


def test_the_saved_model_is_whole(run) -> None:
    model = ElaClassifier.from_pretrained(run[0] / "weights", runtime="keras")
    samples = run[1].samples
    pictures = [run[0] / "samples" / sample.file for sample in samples]
    scores = list(model.scores(pictures))
    np.testing.assert_allclose(scores, [sample.score for sample in samples], atol=1e-6)
    settings = json.loads((run[0] / "weights" / "hf_ela.json").read_text())
    assert settings["recipe"]["network"]["backbone"] == "efficientnet-lite0"
    assert (run[0] / "weights/model.weights.h5").stat().st_size < 1e7  # in half precision


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (lambda name: ("s", ""), "Received: 0 parts"),
        (lambda name: ("s", name[-3:]), "the source s in more than one part"),
        (lambda name: (name.split("/")[1],) * 2, "without part fake, a class has no image"),
    ],
)
def test_parts_must_divide_sources(contrary, cache, tmp_path, row, message) -> None:
    csv = write_groups(
        tmp_path / "g.csv", contrary, "group,source,part", lambda name: (name, *row(name))
    )
    with pytest.raises(DataError, match=message):
        trained(contrary, csv, cache, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ["network.trainable_blocks=1"],
        ["training.ela=on_device", "input.shortest_side=none", "augmentation.shrink=0"],
    ],
)
def test_what_has_seen_the_sources_does_not_leave_them_out(overrides) -> None:
    with pytest.raises(RecipeError, match="has seen the sources"):
        load_recipe("transfer", ["calibration.left_out=part", *overrides])
    with pytest.raises(RecipeError, match="has seen the sources"):
        load_recipe("scratch", ["calibration.left_out=part"])


def test_sources_count_in_the_training_that_is_saved(cache, tmp_path) -> None:
    """Weights differ from those of the same images as one source, on a network that is small."""
    folder = write_folder(tmp_path / "data", train=30, test=4)
    csv = write_groups(
        tmp_path / "groups.csv",
        folder,
        "group,source",
        lambda file: (file, "few" if file.endswith(("000.png", "001.jpg")) else "many"),
    )
    small = [
        "input.before=48", "input.size=32", "training.balance=sources", "training.epochs=1",
    ]  # fmt: skip
    recipe, options = load_recipe("reference", small), reading(folder, csv, cache)
    train(recipe, options, tmp_path / "run", say=lambda line: None, **CHEAP)
    data = prepare(options, recipe)
    sources = data.groups.column(data.train.file_names, "source")
    saved = ElaClassifier.from_pretrained(tmp_path / "run", runtime="keras").model.get_weights()

    def same(name: str, sources: list[str | None]) -> bool:
        model, _ = fit(recipe, data.train, data.validation, tmp_path / name, sources)
        return all(map(np.array_equal, model.get_weights()[:-1], saved[:-1]))  # but for the bias

    assert same("few", sources)
    assert not same("one", ["many"] * len(sources))


def test_fine_tuning_starts_from_normalisation_and_head(run, contrary, cache, tmp_path) -> None:
    """Steps too small to count give the scores of the model, without the parts of its sources."""
    initial = Initial.load(str(run[0]))
    with pytest.raises(RecipeError, match=r"leave no sources out.*calibration.left_out=part"):
        initial.recipe(["calibration.left_out=part"])
    recipe = initial.recipe(["training.learning_rate=1e-9", "training.epochs=1"])
    options = DataOptions(str(contrary), num_proc=1, cache_dir=str(cache))
    found = train(
        recipe, options, tmp_path / "run", initial=initial, say=lambda line: None, **CHEAP
    )
    assert found.left_out is None
    assert found.calibration.kept
    before, after = ([one.score for one in record.samples] for record in (run[1], found))
    np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.second_lane
def test_blocks_are_fine_tuned_and_exported(contrary, groups, cache, tmp_path) -> None:
    fine = ["network.trainable_blocks=2", "calibration.left_out=none", "training.epochs=1"]
    run = trained(contrary, groups, cache, tmp_path / "run", *fine, export=True)
    pictures = [tmp_path / "run/samples" / sample.file for sample in run.samples]
    scores = [
        list(ElaClassifier.from_pretrained(tmp_path / "run/weights", runtime=name).scores(pictures))
        for name in ("onnx", "keras")
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    assert (tmp_path / "run/weights/model.onnx").stat().st_size < 1e7  # trained blocks too


def test_sources_are_drawn_equally_often() -> None:
    sources = ["a"] * 300 + ["b"] * 50 + ["c"] * 100 + ["d"] * 4
    labels = np.array([1] * 350 + [0] * 104)
    shares = balanced_shares(labels, sources)
    of = {name: shares[[source == name for source in sources]].sum() for name in "abcd"}
    assert of["a"] == pytest.approx(of["b"]) == pytest.approx(0.25)
    assert of["c"] + of["d"] == pytest.approx(0.5)
    assert of["d"] / of["c"] == pytest.approx(4 / FEW)  # too few to be drawn as often
    assert balanced_shares(labels, [])[labels == 1].sum() == pytest.approx(0.5)
