"""The command `hf-ela evaluate`: figures of a saved model on labelled images."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import write_flat, write_folder, write_groups
from hf_ela import ElaClassifier, load_image
from hf_ela._text import in_words, no_width, of_hundred
from hf_ela.backend import keras
from hf_ela.data import DataOptions
from hf_ela.evaluation import evaluate
from hf_ela.evaluation.intervals import measure
from hf_ela.evaluation.verdict import verdict
from hf_ela.models.networks import build_model
from hf_ela.recipes.loading import load_recipe

pytestmark = pytest.mark.usefixtures("cache")


def untrained(widths: list[int]) -> ElaClassifier:
    overrides = ("input.size=32", "input.grid=1", f"network.widths={widths}", "network.blocks=1")
    recipe = load_recipe("scratch", overrides)
    keras.utils.set_random_seed(0)  # some tests need two models that differ in their answers
    return ElaClassifier(build_model(recipe), recipe, threshold=0.5)


@pytest.fixture(scope="module")
def classifier() -> ElaClassifier:
    return untrained([4, 8])


@pytest.fixture(scope="module")
def model(classifier, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "mine"
    classifier.save_pretrained(folder, onnx=False)
    return folder


@pytest.fixture(scope="module")
def unsure(tiny, tmp_path_factory) -> Path:
    """Another model of the same name, with five of the twelve test images in its band."""
    classifier = untrained([4, 4])
    scores = sorted(classifier.scores(sorted((tiny / "test").rglob("*.*g"))))
    low, classifier.threshold, high = (sum(scores[i : i + 2]) / 2 for i in (3, 5, 8))
    classifier.false_alarms = {"0.05": (classifier.threshold + high) / 2, "0.02": high}
    classifier.uncertain = (low, high)
    folder = tmp_path_factory.mktemp("unsure") / "mine"
    classifier.save_pretrained(folder, onnx=False)
    return folder


@pytest.fixture
def groups(tiny, tmp_path) -> Path:
    def row(name: str) -> tuple[str, str, str]:
        # Three images are a group: 000 to 002, 003 to 005, ...
        third = int(name[-7:-4]) // 3
        return f"{name[:-7]}{third}", f"{name.split('/')[1]}s", f"[b]{name[-3:]}"

    return write_groups(tmp_path / "groups.csv", tiny, "group,source,generator", row)


def test_json_is_what_the_classifier_scores(
    tiny, model, groups, classifier, tmp_path, command, bars
) -> None:
    out = tmp_path / "out"
    words = f"evaluate {tiny} --model {model} --groups {groups} --out {out} --json"
    report = json.loads(command(words).out)
    assert report == json.loads((out / "evaluation.json").read_text("utf-8"))
    assert bars == ["Perturbing"]
    assert str(tmp_path) not in json.dumps(report)
    found = report["models"]["mine"]
    files = sorted((tiny / "test").rglob("*.*g"))
    labels = [int("fake" in path.parts) for path in files]
    cells = measure(labels, list(classifier.scores(files)), 0.5)
    as_is = found["evaluation"]["test"]["as_is"]
    assert as_is["accuracy"]["value"] == cells["accuracy"]["value"]
    assert as_is["ece"]["value"] == pytest.approx(cells["ece"]["value"], abs=1e-5)
    assert as_is["roc_auc"]["value"] == pytest.approx(cells["roc_auc"]["value"])
    assert found["data"]["n"] == 12
    assert [row["source"] for row in found["sources"]["as_is"]] == ["fakes", "reals"]
    assert [row["source"] for row in found["generators"]["aligned"]] == ["[b]jpg", "[b]png"]
    assert [(row["n"], row["groups"]) for row in found["sources"]["aligned"]] == [(6, 2), (6, 2)]
    assert as_is["accuracy"]["groups"] == 4
    plain = found["robustness"]["rows"][0]
    for metric in ("recall", "specificity", "roc_auc"):
        aligned = found["evaluation"]["test"]["aligned"][metric]["value"]
        assert plain[metric]["value"] == pytest.approx(aligned)
    plots = {path.name: load_image(path).pixels.size for path in (out / "plots").iterdir()}
    assert set(plots) == {
        "scores.png", "confusion.png", "roc.png", "reliability.png", "coverage.png",
        "robustness.png", "sources_as_is.png", "sources_aligned.png",
        "generators_as_is.png", "generators_aligned.png",
    }  # fmt: skip


def test_tables_are_for_people_and_two_models_stand_beside_each_other(
    tiny, model, unsure, groups, tmp_path, command
) -> None:
    words = f"evaluate {tiny} --model {model} --compare {unsure} --groups {groups}"
    printed = command(f"{words} --limit 6 --base as_is --out {tmp_path}/out").out
    assert printed.count("3 fake, 3 real") == 2
    shown = ["mine (compared)", "balanced_accuracy", "[b]jpg", "as-is, n=6, then", "n (groups)"]
    assert [text for text in (*shown, "JPEG 50", "3 (1)") if text not in printed] == []
    models = json.loads((tmp_path / "out/evaluation.json").read_text("utf-8"))["models"]
    mine, other = models["mine"], models["mine (compared)"]
    assert mine["data"] == other["data"]
    assert "difference" in printed
    assert printed.count("JPEG 50") == 3  # of each, and side by side
    compared = json.loads((tmp_path / "out/evaluation.json").read_text("utf-8"))["compared"]
    assert compared["models"] == ["mine", "mine (compared)"]
    assert list(compared["mcnemar"]) == ["as_is", "aligned"]
    for protocol, test in compared["mcnemar"].items():
        right = [
            sum(m["evaluation"]["test"][protocol]["confusion"][cell] for cell in ("tp", "tn"))
            for m in (mine, other)
        ]
        assert test["only_a"] - test["only_b"] == right[0] - right[1]
        line = f"only mine is right on {test['only_a']} images, only mine (compared) on"
        assert f"{line} {test['only_b']}; p = " in " ".join(printed.split())
    for section in ("parameters", "calibration", "evaluation", "sources", "robustness"):
        assert mine[section] != other[section]


@pytest.mark.usefixtures("briefly")
def test_what_the_uncertain_band_leaves_is_measured(tiny, model, unsure, tmp_path, command) -> None:
    printed = command(f"evaluate {tiny} --model {unsure} --out {tmp_path}/out").out
    loaded = ElaClassifier.from_pretrained(unsure)
    low, high = loaded.uncertain
    assert f"uncertain from {low:.3f} to {high:.3f}" in " ".join(printed.split())
    (share,) = (line for line in printed.splitlines() if "coverage" in line)
    assert "0.583 (" in share  # 7 of 12
    assert "accuracy when certain" in printed
    found = json.loads((tmp_path / "out/evaluation.json").read_text("utf-8"))["models"]["mine"]
    assert found["calibration"]["uncertain"] == [low, high]
    points = found["evaluation"]["false_alarms"]["as_is"]
    assert list(points) == list(found["calibration"]["false_alarms"]) == [*loaded.false_alarms]
    for share, threshold in loaded.false_alarms.items():
        (row,) = (line for line in printed.splitlines() if f"for {float(share):.0%} false" in line)
        assert f"recall from {threshold:.3f}" in row
        assert in_words(points[share]["recall"]) in row
    (row,) = (line for line in printed.splitlines() if "ece of a calibrated model" in line)
    as_is, aligned = map(in_words, found["evaluation"]["chance_ece"].values())
    assert row.index(as_is) < row.rindex(aligned)
    shipped = found["evaluation"]["coverage"]["as_is"]["shipped"]
    files = sorted((tiny / "test").rglob("*.*g"))
    right = [
        (score >= loaded.threshold) == ("fake" in path.parts)
        for path, score in zip(files, loaded.scores(files), strict=True)
        if not loaded.is_uncertain(float(score))  # by the band alone
    ]
    assert (shipped["coverage"]["value"], shipped["coverage"]["n"]) == (7 / 12, 12)
    assert (shipped["accuracy"]["value"], shipped["accuracy"]["n"]) == (sum(right) / 7, 7)
    assert (
        "coverage" not in command(f"evaluate {tiny} --model {model} --limit 4").out
    )  # it has no band


@pytest.mark.usefixtures("briefly")
def test_what_an_evaluation_before_drew_does_not_stay(
    tiny, model, groups, tmp_path, command
) -> None:
    out = tmp_path / "out"
    words = f"evaluate {tiny} --model {model} --limit 4 --out {out}"
    command(words, "--groups", groups)
    (out / "plots/mine.png").write_text("the user's")
    assert len(list((out / "plots").iterdir())) == 11
    printed = command(words).out
    drawn = {"scores", "confusion", "roc", "reliability", "coverage", "robustness", "mine"}
    assert {path.stem for path in (out / "plots").iterdir()} == drawn
    # Of four images all of a class got one answer, at least under one protocol.
    assert "Zero-width interval" in " ".join(printed.split())


def test_a_run_keeps_its_plots(tiny, model, tmp_path, command) -> None:
    (tmp_path / "plots").mkdir()
    kept = [tmp_path / "run.json", tmp_path / "plots/sources_as_is.png"]
    for path in kept:
        path.write_text("of a training")
    words = f"evaluate {tiny} --model {model} --limit 2 --out {tmp_path}"
    assert "must not be a run folder" in command(words, status=2).err
    assert [path.read_text() for path in kept] == ["of a training"] * 2


def test_certainty_is_denied_where_an_interval_has_no_width() -> None:
    wide = {"value": 0.5, "low": 0.4, "high": 0.6}
    undefined = {"value": None, "low": None, "high": None}
    plain = {"accuracy": wide, "roc_auc": undefined, "confusion": {"tp": 1}, "loss": 0.1}
    assert no_width([plain, plain]) is None
    assert no_width([plain, {"accuracy": wide | {"low": 0.6}}])


@pytest.mark.usefixtures("briefly")
def test_without_a_model_it_is_the_packaged_one(tiny, command) -> None:
    found = json.loads(command(f"evaluate {tiny} --limit 2 --json").out)["models"]["pretrained"]
    packaged = ElaClassifier.from_pretrained()
    assert found["recipe"] == "transfer"
    assert found["calibration"]["threshold"] == packaged.threshold


@pytest.mark.usefixtures("briefly")
def test_it_ends_with_a_verdict_in_sentences(
    tiny, tiny_run, tiny_groups, tmp_path, command
) -> None:
    words = f"evaluate {tiny} --model {tiny_run} --groups {tiny_groups} --out {tmp_path}/out"
    out, err = command(words)
    assert "Scoring 12 images of tiny, test, as-is and aligned ..." in err
    report = json.loads((tmp_path / "out/evaluation.json").read_text("utf-8"))
    (found,) = report["models"].values()
    tables, _, said = out.partition("\nVerdict\n")
    assert "balanced_accuracy" in tables
    said = " ".join(said.split()).removesuffix(
        f"Written to {tmp_path}/out: evaluation.json, plots/"
    )
    assert said.strip() == " ".join(f"- {line}" for line in found["verdict"])
    as_is, aligned = (found["evaluation"]["test"][name] for name in ("as_is", "aligned"))
    first, second, *others = found["verdict"]
    assert first.startswith("On 12 pictures of 2 sources, as they come, it is right in ")
    for cell in (as_is["accuracy"], as_is["recall"], as_is["specificity"]):
        assert f"{100 * cell['value']:.0f} of 100 (" in first
    assert f"it is right in {100 * aligned['accuracy']['value']:.0f} of 100 (" in second
    assert "Too few sources have 13 pictures or more to tell which are hard." in others
    assert others[-1].startswith("12 pictures")
    for test, says in (
        (
            {"only_a": 40, "only_b": 9, "p": 1e-5},
            "31 fewer in all (p = 1e-05): the history of the files helps it",
        ),
        (
            {"only_a": 9, "only_b": 40, "p": 1e-5},
            "31 more in all (p = 1e-05): the history of the files misleads it",
        ),
        ({"only_a": 9, "only_b": 4, "p": 0.3}, "5 fewer in all (p = 0.3): it cannot be seen"),
    ):
        assert says in verdict(found, test)[1]
    large = {**found["sources"]["as_is"][0], "n": 20, "accuracy": HALF}
    sources = [{**large, "source": "easy", "accuracy": {**HALF, "value": 0.9}}, large]
    many = {**found, "sources": {"as_is": sources}}
    worst = f"It is worst on {large['source']} (n = 20): right in 50 of 100 (30 to 70)."
    assert worst in verdict(many, test)


HALF = {"value": 0.5, "low": 0.3, "high": 0.7, "n": 20}


def test_nearly_all_is_not_said_to_be_all() -> None:
    assert of_hundred({"value": 0.999, "low": 0.001, "high": 1.0}) == "99 of 100 (1 to 100)"


def quick(classifier: ElaClassifier, data: Path, **options: Any) -> dict[str, Any]:
    found = evaluate(classifier, DataOptions(str(data), **options), resamples=20, perturbations=[])
    return found.sections


@pytest.mark.usefixtures("briefly")
def test_a_dataset_of_one_split_is_measured_whole(
    tiny, model, classifier, tmp_path, command
) -> None:
    shutil.copytree(tiny / "test", tmp_path / "held/test")
    data = quick(classifier, tmp_path / "held")["data"]
    assert (data["n"], data["split"]) == (12, "test")
    flat = write_flat(tmp_path / "flat", 4)
    out, err = command(f"evaluate {flat} --model {model} --json")
    data = json.loads(out)["models"]["mine"]["data"]
    assert (data["n"], data["split"]) == (8, "train")
    assert "has no split test: measured on train, its only one." in err
    error = command(f"evaluate {flat} --model {model} --split val", status=2).err
    assert "has no split val. Choose one of its splits as --split: train." in error


def test_a_refused_image_is_listed_and_too_many_are_an_error(
    model, classifier, tmp_path, command
) -> None:
    data = write_folder(tmp_path / "data", train=2, test=25)
    (data / "test/fake/test000.png").write_text("no image")
    found = quick(classifier, data)["data"]
    assert (found["fake"], found["real"]) == (24, 25)
    (refused,) = found["rejected"]
    assert refused["file"] == "test/fake/test000.png"
    assert refused["reason"].startswith("NotAnImageError")
    for path in sorted((data / "test/real").iterdir())[:3]:
        path.write_text("no image")
    err = command(f"evaluate {data} --model {model} --json", status=2).err
    assert "At most 2.0%" in err
    assert "raise --max-rejected:\n  test/fake/test000.png: NotAnImageError" in err
    found = quick(classifier, data, max_rejected=0.1)["data"]
    assert (found["fake"], found["real"], len(found["rejected"])) == (24, 22, 4)


def test_a_name_in_an_error_makes_no_line_of_its_own(model, tmp_path, command) -> None:
    data = write_folder(tmp_path / "data", train=2, test=2)
    (data / "test/fake/a\n  b\x1b[31m.png").write_text("no image")
    _, first, listed = command(f"evaluate {data} --model {model}", status=2).err.splitlines()
    assert first.endswith("raise --max-rejected:")
    assert listed.startswith("  test/fake/a\\n  b\\x1b[31m.png: NotAnImageError")
    assert (
        len(command("evaluate", "no\n  folder", "--model", str(model), status=2).err.splitlines())
        == 1
    )


def test_data_and_models_that_cannot_be_used(tiny, model, tmp_path, command):
    one_class = tmp_path / "one"
    shutil.copytree(tiny, one_class)
    for path in (one_class / "test/real").iterdir():
        path.unlink()
    for path in (one_class / "test/fake").iterdir():
        path.write_text("no image")  # said before any is read
    one_left = tmp_path / "left"
    shutil.copytree(tiny, one_left)
    for path in (one_left / "test/fake").iterdir():
        path.write_text("no image")
    (tmp_path / "others.csv").write_text("file_name,group\nnothing.jpg,1\n")
    for words, message in (
        (
            [tiny, "--split", "dev"],
            "no split dev. Choose one of its splits as --split: test, train.",
        ),
        ([tmp_path / "none"], "there is no such folder"),
        (
            [one_class],
            "images of both classes. Received: 6 fake and 0 real images in the split test",
        ),
        ([one_left, "--max-rejected", 0.5], "Received: 0 fake and 6 real images in the split test"),
        ([tiny, "--groups", tmp_path / "others.csv"], "names 1 images, none of this dataset"),
        ([tiny, "--groups", tmp_path / "none.csv"], "does not exist"),
        ([tiny, "--compare", tmp_path], "hf_ela.json"),
        ([tiny, "--compare", tmp_path, "--out", tiny / "out"], "must lie outside the data"),
        ([tiny, "--compare", tmp_path, "--out", model / "hf_ela.json"], "must be writable"),
    ):
        out, err = command("evaluate", *words, "--model", model, status=2)
        assert message in err
        assert not out
    assert not (tiny / "out").exists()


@pytest.mark.usefixtures("briefly")
def test_a_groups_file_that_names_a_few_images_is_said(tiny, model, tmp_path, command) -> None:
    few = tmp_path / "few.csv"
    few.write_text("file_name,group\ntest/fake/test000.png,a\ntest/real/test000.png,b\n")
    said = "The groups file names 2 of 12 images: each of the others counts as a group of its own."
    words = f"evaluate {tiny} --model {model} --groups {few} --out {tmp_path}/out"
    assert said in " ".join(command(words).out.split())
    found = json.loads((tmp_path / "out/evaluation.json").read_text("utf-8"))["models"]["mine"]
    assert found["data"]["groups"]["matched"] == 2
