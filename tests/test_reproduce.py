import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import CHEAP, TINY, changed, files_of, write_folder
from hf_ela.errors import ModelError, RunError
from hf_ela.evaluation.metrics import METRICS
from hf_ela.recipes.loading import load_recipe
from hf_ela.run_record import Run, read_run
from hf_ela.training.reproduction import (
    Reproduction,
    compare,
    comparison_text,
    differences,
    reproduce,
)

DATA, MODEL = "somebody/art", "somebody/ela"


def minimal() -> dict[str, Any]:
    """A run.json as a release has it, made by hand."""
    cell = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 12}
    measured = {"accuracy": cell, "f1": cell, "confusion": {"tp": 5, "fn": 1, "fp": 1, "tn": 5}}
    return {
        "schema": 1,
        "recipe": load_recipe("scratch", TINY).model_dump(),
        "data": {
            "id": "user/art",
            "revision": "a" * 40,
            "conversion": None,
            "fingerprint": "b" * 64,
            "classes": {"ai": "fake", "human": "real"},
            "splits": {"train": {"n": 90}, "validation": {"n": 8}, "test": {"n": 12}},
            "limit": None,
            "groups": None,
            "rejected": [],
        },
        "evaluation": {"test": {"as_is": measured, "aligned": measured}},
        "environment": {
            "python": "3.11.7",
            "backend": "jax",
            "gpu": False,
            "packages": {"keras": "3.15.1"},
            "pixels": {"pillow": "13.0.0"},
        },
    }


NUMBER = st.floats(0, 1)
NOTHING = {"value": None, "low": None, "high": None, "n": 3}


@st.composite
def intervals(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        return NOTHING
    low, value, high = sorted(draw(st.lists(NUMBER, min_size=3, max_size=3)))
    return {"value": value, "low": low, "high": high, "n": 9}


CONFUSION = {"confusion": {"tp": 5, "fn": 1, "fp": 1, "tn": 5}}
METRIC_CELLS = st.dictionaries(st.sampled_from(METRICS), intervals(), min_size=1)


def parsed(run: dict[str, Any]) -> Run:
    return Run.model_validate_json(json.dumps(run))


def with_metrics(as_is: dict[str, Any], aligned: dict[str, Any]) -> Run:
    test = {"as_is": as_is | CONFUSION, "aligned": aligned | CONFUSION}
    return parsed(changed(minimal(), evaluation={"test": test}))


class TestCompare:
    @given(METRIC_CELLS, METRIC_CELLS)
    def test_every_metric_of_both_has_a_row(self, before, after) -> None:
        then, now = with_metrics(before, after), with_metrics(after, before)
        assert all(row.inside for row in compare(then, then))  # a run lies inside itself
        rows = {(row.protocol, row.metric): row for row in compare(then, now)}
        assert {name for _, name in rows} == set(before) | set(after)
        for metric in {*before, *after}:
            row = rows["as_is", metric]
            assert (row.recorded, row.reproduced) == (before.get(metric), after.get(metric))
            if metric not in before or metric not in after:
                assert not row.inside

    @given(intervals(), intervals())
    def test_inside_is_between_the_ends_or_undefined_twice(self, then, now) -> None:
        row, _ = compare(*(with_metrics({"f1": cell}, {"f1": cell}) for cell in (then, now)))
        if then["value"] is None or now["value"] is None:
            assert row.inside is (then["value"] is None and now["value"] is None)
        else:
            assert row.inside is (then["low"] <= now["value"] <= then["high"])

    def test_differences_are_what_decides_the_figures(self) -> None:
        run = minimal()
        assert differences(parsed(run), parsed(run)) == []
        other = changed(
            run,
            data__fingerprint="c" * 64,
            data__rejected=[{"file": "a.png"}],
            data__splits__test__n=13,
            environment__python="3.12.0",
            environment__packages={"keras": "3.16.0", "jax": "0.11"},
            environment__gpu=True,
        )
        found = differences(parsed(run), parsed(other))
        assert {(d.what, d.recorded, d.reproduced) for d in found} == {
            ("dataset fingerprint", "b" * 64, "c" * 64),
            ("images refused", 0, 1),
            ("images test", 12, 13),
            ("python", "3.11.7", "3.12.0"),
            ("package keras", "3.15.1", "3.16.0"),
            ("package jax", None, "0.11"),
            ("gpu", False, True),
        }


def read(folder: Path, run: Any) -> Run:
    (folder / "run.json").write_text(run if isinstance(run, str) else json.dumps(run))
    return read_run(folder)


class TestRecord:
    def test_what_a_later_version_wrote_is_kept(self, tmp_path) -> None:
        later = changed(minimal(), novelty=1, data__novelty=[1], environment__novelty="x")
        assert read(tmp_path, later).content() == later

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"schema": 2}, "Upgrade"),
            ({"recipe__training__epochs": 10**9}, "`recipe.training.epochs`"),
            ({"recipe__network": {"kind": "os.system"}}, "`recipe.network`"),
            ({"data__id": 5}, "`data.id`"),
            ({"data__id": "/etc"}, "a repository of the Hub is user/name"),
            ({"data__id": "../art"}, "a repository of the Hub is user/name"),
            ({"data__id": "user/art\n"}, "a repository of the Hub is user/name"),
            ({"data__id": "parquet"}, "a repository of the Hub is user/name"),
            ({"data__revision": "refs/../../x"}, "`data.revision`"),
            ({"data__limit": -1}, "`data.limit`"),
            ({"data__classes": {"ai": "harmful"}}, "`data.classes.ai`"),
            ({"data__splits": {"../x": {"n": 1}}}, "`data.splits"),
            ({"environment__backend": "os"}, "`environment.backend`"),
            ({"environment__packages": [1]}, "`environment.packages`"),
            ({"evaluation__test__aligned": {"confusion": {}}}, "at least one metric"),
            ({"evaluation__test__as_is__f1": 0.5}, "`evaluation.test.as_is.f1`"),
            ({"evaluation__test__as_is__f1": NOTHING | {"low": 0.1}}, "low <= value <= high"),
            (
                {"evaluation__test__as_is__f1": {"value": 1.0, "low": 0.1, "high": 0.9, "n": 1}},
                "low <= value <= high",
            ),
        ],
    )
    def test_what_is_not_valid_is_named(self, tmp_path, values, message) -> None:
        with pytest.raises(ModelError, match=message):
            read(tmp_path, changed(minimal(), **values))

    @pytest.mark.parametrize("text", ["", "{", "[" * 99_999, '{"schema": NaN}', " " * 2**24 + "{}"])
    def test_what_is_no_json_is_refused(self, tmp_path, text) -> None:
        with pytest.raises(ModelError):
            read(tmp_path, text)

    def test_missing(self, tmp_path) -> None:
        with pytest.raises(RunError, match=r"with run\.json.* without it"):
            reproduce(str(tmp_path), tmp_path / "out")
        (tmp_path / "checkpoint").mkdir()
        with pytest.raises(RunError, match="Resume its training"):
            read_run(tmp_path)


class TestData:
    def test_of_a_local_folder_must_be_given(self, tmp_path) -> None:
        read(tmp_path, changed(minimal(), data__revision=None, data__id="art"))
        with pytest.raises(RunError, match="with the same images as `data`"):
            reproduce(str(tmp_path), tmp_path / "out")
        with pytest.raises(RunError, match="`data` must be a local folder"):
            reproduce(str(tmp_path), tmp_path / "out", data=str(tmp_path / "none"))
        assert not (tmp_path / "out").exists()

    def test_a_local_folder_is_never_taken_for_that_of_the_hub(self, tmp_path, monkeypatch) -> None:
        """A release may name what lies where the command happens to be run."""
        write_folder(tmp_path / "user" / "art", train=4, test=4)
        read(tmp_path, minimal())
        monkeypatch.chdir(tmp_path)
        with pytest.raises(RunError, match="in another folder"):
            reproduce(str(tmp_path), tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def again(tiny_groups, tmp_path_factory) -> Callable[..., Any]:
    """Reproduce a release of `tiny_run`."""
    cache = str(tmp_path_factory.mktemp("cache"))
    options = {"groups": str(tiny_groups), "num_proc": 1, "cache_dir": cache}
    options |= CHEAP

    def run(
        release: Path, data: Path, out: Path, say: Callable[[str], None], **how: Any
    ) -> Reproduction:
        return reproduce(str(release), out, data=str(data), say=say, **(options | how))

    return run


class TestLocalRelease:
    def test_the_same_data_gives_the_same_bits(self, again, tiny_run, tiny, tmp_path) -> None:
        """Also when it was interrupted: the same command goes on."""
        out, said = tmp_path / "out", []

        def interrupt(line: str) -> None:
            said.append(line)
            if line.startswith("Training"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            again(tiny_run, tiny, out, interrupt)
        assert not (out / "run.json").exists()
        # Exported, as the release is, since that is what is measured.
        result = again(tiny_run, tiny, out, said.append, export=True)
        assert read_run(out).ela == {"computed": 0, "cached": 44}
        assert result.inside
        assert {row.protocol for row in result.rows} == {"as_is", "aligned"}
        assert len(result.rows) == 2 * len(METRICS)
        assert all(row.reproduced["value"] == row.recorded["value"] for row in result.rows)
        assert [d.what for d in result.differences] == []
        assert not any("Warning: " in line and "release" in line for line in said)
        written = json.loads((out / "reproduction.json").read_text())
        assert written["inside"] is True
        assert len(written["rows"]) == len(result.rows)
        text = comparison_text(result)
        assert f"REPRODUCED: all {len(result.rows)} metrics" in text
        assert "Data and environment are the same." in text
        with pytest.raises(RunError, match="new or empty"):
            again(tiny_run, tiny, out, said.append)

    def test_other_images_are_said_before_training_and_listed(
        self, again, tiny_run, tmp_path
    ) -> None:
        release, said = tmp_path / "release", []
        release.mkdir()
        cell = {"value": 0.999, "low": 0.999, "high": 0.999, "n": 12}
        run = read_run(tiny_run).content()
        read(release, changed(run, evaluation__test__as_is__accuracy=cell))
        data = write_folder(tmp_path / "data", train=18, test=6)
        result = again(release, data, tmp_path / "out", said.append)
        warning = next(i for i, line in enumerate(said) if "does not hold the images" in line)
        training = next(i for i, line in enumerate(said) if line.startswith("Training"))
        assert warning < training
        what = {difference.what for difference in result.differences}
        assert {"dataset fingerprint", "images train"} <= what
        assert not result.inside
        outside = next(row for row in result.rows if row.metric == "accuracy")
        assert not outside.inside
        text = comparison_text(result)
        assert "NOT REPRODUCED: " in text
        assert "OUTSIDE" in text

    def test_what_a_release_says_cannot_steer_a_terminal(self, tiny_run) -> None:
        run = read_run(tiny_run)
        evil = parsed(changed(run.content(), environment__python="\x1b[2J\n3.11"))
        rows = compare(evil, run)
        text = comparison_text(Reproduction("a", None, 4, rows, differences(evil, run), True))
        assert "\x1b" not in text
        assert "QUICK CHECK with 4 images of every split" in text


@pytest.mark.second_lane
def test_release_of_a_hub_dataset(hub, tiny_run, tiny, tmp_path, cache, command) -> None:
    """Recorded commit, an empty cache, and both verdicts."""
    images = files_of(tiny)
    dataset = hub.add_dataset(DATA, images)
    commit = dataset.find("main").sha
    dataset.commit(dict.fromkeys(images))  # the head is of no use any more
    run = read_run(tiny_run).content()
    recorded = changed(run, data__id=DATA, data__revision=commit, data__groups=None)
    model = hub.add_model(MODEL, {"run.json": json.dumps(recorded).encode()})
    model.tag("v1")
    cell = {"value": 0.999, "low": 0.999, "high": 0.999, "n": 12}
    outside = changed(recorded, evaluation__test__as_is__brier=cell)
    model.commit({"run.json": json.dumps(outside).encode()})

    out = tmp_path / "first"
    printed = command(f"reproduce {MODEL}@v1 --num-proc 1 --out {out}").out
    assert "REPRODUCED: all 20 metrics lie inside" in printed
    written = json.loads((out / "reproduction.json").read_text())
    assert (written["source"], written["revision"]) == (MODEL, model.find("v1").sha)
    assert read_run(out).data.revision == commit
    assert read_run(out).data.fingerprint == run["data"]["fingerprint"]

    assert (
        "NOT REPRODUCED: 1 of 20 metrics"
        in command(f"reproduce {MODEL} --num-proc 1 --out {tmp_path}/second", status=1).out
    )


def test_what_is_no_release_ends_with_status_2(hub, command) -> None:
    hub.add_model("somebody/weights", {"model.safetensors": b"x"})
    for name, said in (
        ("somebody/weights", "has no run.json"),
        ("somebody/nothing", "does not exist"),
        ("nowhere", "no such folder"),
        ("somebody/weights@", "after the @"),
    ):
        assert said in command(f"reproduce {name}", status=2).err
