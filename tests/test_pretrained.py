"""The model that comes with the package: what its record says of it is true of its files."""

import copy
import json
import pickle
import re
import shutil

import pytest
from datasets.fingerprint import Hasher
from PIL import Image

from hf_ela import ElaClassifier
from hf_ela.errors import ModelError
from hf_ela.hub.card import make_card
from hf_ela.hub.locate import packaged_model
from hf_ela.hub.package import sample_pictures
from hf_ela.recipes.loading import load_recipe, parse_recipe

FOLDER = packaged_model()
RUN = json.loads((FOLDER / "run.json").read_text("utf-8"))


def test_is_of_the_recipe_of_this_package() -> None:
    recipe = load_recipe("transfer", ["calibration.left_out=part"])
    assert parse_recipe(RUN["recipe"], source="run.json") == recipe
    assert ElaClassifier.from_pretrained().recipe == recipe


@pytest.mark.parametrize("runtime", ["onnx", "keras"])
def test_gives_the_recorded_scores(runtime) -> None:
    classifier = ElaClassifier.from_pretrained(runtime=runtime)
    recorded = {sample["file"]: sample["score"] for sample in RUN["samples"]}
    pictures = sample_pictures()
    assert recorded.keys() == pictures.keys()
    for name, score in zip(pictures, classifier.scores(pictures.values()), strict=True):
        assert score == pytest.approx(recorded[name], abs=1e-4)


def test_decides_as_recorded() -> None:
    classifier = ElaClassifier.from_pretrained()
    calibration = RUN["calibration"]
    assert classifier.threshold == calibration["threshold"]
    assert classifier.temperature == calibration["temperature"]
    assert list(classifier.uncertain) == calibration["uncertain"]


def test_its_card_is_made_of_its_record() -> None:
    card = (FOLDER / "README.md").read_text("utf-8")
    # The samples lie in the repository once, not here.
    assert card == make_card(RUN).replace("](samples/", "](../../../model_card/samples/")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", card)
    assert pictures
    assert all((FOLDER / picture).is_file() for picture in pictures)


def test_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()}
    assert sizes["model.onnx"] == RUN["onnx"]["bytes"]
    assert sizes["model.onnx"] < 16_000_000
    assert sum(sizes.values()) < 30_000_000


def test_it_is_pickled_copied_and_hashed_as_where_it_is_from(pictures, tmp_path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(packaged_model(), folder)
    tiny = Image.new("RGB", (9, 9))
    for source in (None, folder):
        first, second = (ElaClassifier.from_pretrained(source) for _ in range(2))
        second.threshold = first.threshold = 0.9
        expected = first.predict(pictures[-1])
        for again in (pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):
            assert again.predict(pictures[-1]) == expected
            assert again.threshold == 0.9
        assert len(pickle.dumps(first)) < 1000
        scores = list(first.scores([tiny, pictures[-1]]))
        kept = [score.doubt for score in pickle.loads(pickle.dumps(scores))]
        assert kept == [score.doubt for score in copy.deepcopy(scores)]
        assert ["too small" in doubt for doubt in kept] == [True, False]
        assert Hasher.hash(first.predict) == Hasher.hash(second.predict)
        second.threshold = 0.8
        assert Hasher.hash(first.predict) != Hasher.hash(second.predict)
    pickled, hashed = pickle.dumps(first), Hasher.hash(ElaClassifier.from_pretrained(folder))
    settings = json.loads((folder / "hf_ela.json").read_text("utf-8"))
    (folder / "hf_ela.json").write_text(json.dumps(settings | {"temperature": 3.0}))
    with pytest.raises(ModelError, match="is not what was pickled"):
        pickle.loads(pickled)
    assert Hasher.hash(ElaClassifier.from_pretrained(folder)) != hashed


def test_a_share_of_false_alarms_names_a_threshold(pictures, command) -> None:
    """Fewer are called fake; what only the model's own threshold would call so is uncertain."""
    model = ElaClassifier.from_pretrained()
    five, two, one = (model.false_alarms[share] for share in ("0.05", "0.02", "0.01"))
    assert model.threshold < five < two < one
    assert [model.threshold_for(share) for share in (None, 0.3, 0.02, 0.015)] == [
        model.threshold, five, two, one
    ]  # fmt: skip
    scores = [*model.scores(pictures)]
    assert any(model.threshold <= score < two for score in scores)
    answers = model.predict(pictures, max_false_alarms=0.02, abstain=True)
    for score, (first, *_) in zip(scores, answers, strict=True):
        low = model.uncertain[0]
        label = "fake" if score >= two else "real" if score < low else "uncertain"
        assert first["label"] == label
    out = command("predict --json --max-false-alarms 0.02", *pictures[4:8]).out
    shown = [json.loads(line) for line in out.splitlines()]
    assert [one["label"] if not one["uncertain"] else "uncertain" for one in shown] == [
        first["label"] for first, *_ in answers[4:8]
    ]
    assert f"with {two:.3f}" in command("predict --max-false-alarms 0.02", pictures[0]).out
    with pytest.raises(ValueError, match=r"threshold: 0.05, 0.02, 0.01. Received: 0.001"):
        model.predict(pictures, max_false_alarms=0.001)
    error = command("predict --max-false-alarms 0.001", pictures[0], status=2).err
    assert "--max-false-alarms must be a share for which" in error
