"""Threads and providers of a classifier, other processes that use one, and shards of `predict`."""

import copy
import csv
import gc
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from bad_files import encode, picture
from bad_models import RECIPE, SHAPE, edited, expand
from hf_ela import ElaClassifier
from hf_ela.errors import ModelError
from hf_ela.models.onnx_runtime import OnnxModel

CPU, OTHER = "CPUExecutionProvider", "AzureExecutionProvider"
"""A provider that every build on the package index has; it leaves our graphs to the CPU."""
TASKS = Path("/proc/self/task")
IMAGES = [encode(picture(150, 120, seed=seed), "PNG") for seed in range(6)]


@pytest.fixture
def started() -> Callable[[], int]:
    """How many more threads this process has than before, with those that Python did not start."""
    if not TASKS.is_dir():
        pytest.skip("only Linux counts the threads of a process there")
    gc.collect()  # models of earlier tests
    before = len([*TASKS.iterdir()])
    return lambda: len([*TASKS.iterdir()]) - before


def readers(classifier: ElaClassifier) -> set[str]:
    """Threads that score a list of images."""
    found: set[str] = set()
    for _ in classifier.scores(IMAGES):
        found |= {one.name for one in threading.enumerate() if one.name.startswith("hf_ela")}
    return found


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five pictures, two levels deep, one of which cannot be read."""
    (tmp_path / "art" / "deep").mkdir(parents=True)
    for number, name in enumerate(("b.png", "deep/e.png", "a.png", "deep/d.png")):
        (tmp_path / "art" / name).write_bytes(encode(picture(90, 70, seed=number), "PNG"))
    (tmp_path / "art" / "text.png").write_text("no picture")
    return tmp_path / "art"


class TestThreads:
    @pytest.mark.parametrize(("asked", "variable", "expected"), [(5, "2", 5), (None, "3", 3)])
    def test_one_number_is_that_of_readers_and_of_the_network(
        self, saved_crops, asked, variable, expected, started, monkeypatch
    ) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
        classifier = ElaClassifier.from_pretrained(saved_crops, threads=asked)
        assert started() == expected - 1  # the thread that asks computes too
        assert len(readers(classifier)) == expected

    def test_the_command_takes_the_number(self, folder, saved_crops, command, monkeypatch) -> None:
        counts = []

        def noted(results: Iterator[Any], *_: Any, **__: Any) -> Iterator[Any]:
            for result in results:
                names = [thread.name for thread in threading.enumerate()]
                counts.append(sum(name.startswith("hf_ela") for name in names))
                yield result

        monkeypatch.setattr("hf_ela.cli.predict.progress_bar", noted)
        command(f"predict --model {saved_crops} --threads 3", folder, status=1)
        assert max(counts) == 3

    def test_scores_do_not_depend_on_them(self, saved_crops) -> None:
        one, many = (ElaClassifier.from_pretrained(saved_crops, threads=n) for n in (1, 7))
        assert [*one.scores(IMAGES)] == [*many.scores(IMAGES)]

    def test_ten_models_do_not_start_hundreds(self, saved_crops, started, monkeypatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "64")
        models = [ElaClassifier.from_pretrained(saved_crops) for _ in range(10)]
        assert started() < 100
        del models
        assert started() <= 0

    @pytest.mark.parametrize("threads", [0, -3, 1.5, "2"])
    def test_fewer_than_one_is_refused_before_a_download(self, threads) -> None:
        with pytest.raises(ValueError, match=r"`threads` must be an integer of at least 1."):
            ElaClassifier.from_pretrained("nobody/nothing", threads=threads)


class TestProviders:
    def test_an_unknown_name_is_refused_before_a_download(self) -> None:
        for wrong in (["cuda"], "CUDAExecutionProvider", [OTHER, "cpu"], [(OTHER, {})], 5):
            with pytest.raises(ValueError, match=rf"knows: .*CUDA.*This onnxruntime has .*{CPU}"):
                ElaClassifier.from_pretrained("nobody/nothing", providers=wrong)

    def test_keras_has_none(self, saved_crops) -> None:
        with pytest.raises(ValueError, match="`providers` are those of ONNX Runtime"):
            ElaClassifier.from_pretrained(saved_crops, runtime="keras", providers=[CPU])

    def test_for_one_that_is_missing_the_cpu_computes_and_one_line_says_so(
        self, saved_crops, caplog
    ) -> None:
        has = onnxruntime.get_available_providers()
        lacking = [name for name in onnxruntime.get_all_providers() if name not in has][-1]
        expected = ElaClassifier.from_pretrained(saved_crops).predict(IMAGES[0])
        for _ in range(2):
            classifier = ElaClassifier.from_pretrained(saved_crops, providers=[lacking])
            assert classifier.predict(IMAGES[0]) == expected
        (said,) = caplog.messages
        assert said == (
            f"{lacking} cannot be used: this onnxruntime has only {', '.join(has)}. "
            f"{CPU} computes instead."
        )

    @pytest.mark.parametrize("providers", [[OTHER, CPU], [CPU, OTHER]])
    def test_one_that_is_there_is_used(self, saved_crops, providers, caplog) -> None:
        classifier = ElaClassifier.from_pretrained(saved_crops, threads=3, providers=providers)
        expected = ElaClassifier.from_pretrained(saved_crops).predict(IMAGES)
        assert classifier.predict(IMAGES) == expected
        assert caplog.messages == []

    def test_memory_is_limited_with_others_too(self) -> None:
        model = OnnxModel(edited(lambda model: expand(model, 2 * 10**9)), RECIPE, providers=[OTHER])
        with pytest.raises(ModelError, match=f"of memory: .*Leave `providers` out if {OTHER} has"):
            model.probabilities(np.zeros((1, *SHAPE), np.uint8))


def test_threads_and_providers_are_pickled_and_copied(saved_crops) -> None:
    first = ElaClassifier.from_pretrained(saved_crops, threads=3, providers=[OTHER])
    for again in (pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):
        assert len(readers(again)) == 3
        assert pickle.dumps(again) == pickle.dumps(first)
        assert OTHER.encode() in pickle.dumps(again)


PROGRAM = """
import json, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from hf_ela import ElaClassifier

way, *pictures = sys.argv[1:]

def inherited(part):
    return classifier.predict(part)

if __name__ == "__main__":
    classifier = ElaClassifier.from_pretrained(threads=2)
    expected = classifier.predict(pictures)  # all threads run before the others start
    parts = [pictures[::2], pictures[1::2]]
    if way == "joblib":
        from joblib import Parallel, delayed
        found = Parallel(2)(delayed(classifier.predict)(part) for part in parts)
    elif way == "pool":
        with get_context("spawn").Pool(2) as pool:
            found = pool.map(classifier.predict, parts)
    elif way == "map":
        from datasets import Dataset
        rows = Dataset.from_dict({"pictures": parts})
        scored = rows.map(lambda row: {"found": classifier.predict(row["pictures"])}, num_proc=2)
        found = [*scored["found"]]
    else:
        function = inherited if way == "inherited" else classifier.predict
        with ProcessPoolExecutor(2, get_context("fork" if way == "inherited" else way)) as pool:
            found = [*pool.map(function, parts, timeout=100)]
    assert found == [expected[::2], expected[1::2]], found
    print("equal")
"""


@pytest.mark.second_lane
@pytest.mark.parametrize("way", ["joblib", "pool", "spawn", "fork", "inherited", "map"])
def test_a_classifier_answers_in_other_processes(way, pictures, python, tmp_path) -> None:
    """By joblib, multiprocessing, an executor that spawns or forks, and `datasets`."""
    (tmp_path / "program.py").write_text(PROGRAM)
    home = {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = python([tmp_path / "program.py", way, *pictures[:4]], **home)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["equal"]), done.stderr


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestShard:
    @pytest.mark.parametrize("of", [2, 7])
    def test_all_shards_are_the_whole_and_nothing_is_scored_twice(
        self, folder, saved_crops, command, of
    ) -> None:
        def lines(*more: str) -> list[dict[str, Any]]:
            words = ["--json", "--model", str(saved_crops), *more]
            refuses = more == () or any("text.png" in file for file in expected_files(more[1]))
            out = command("predict", folder, folder / "b.png", *words, status=int(refuses)).out
            return [json.loads(line) for line in out.splitlines()]

        def expected_files(shard: str) -> list[str]:
            return [row["file"] for row in whole[int(shard.partition("/")[0]) - 1 :: of]]

        whole = lines()
        assert len(whole) == 6  # one of them is named twice
        shards = [lines("--shard", f"{number}/{of}") for number in range(1, of + 1)]
        assert [*chain(*zip_all(shards))] == whole

    def test_each_has_a_file_of_its_own_and_says_which_it_is(
        self, folder, saved_crops, tmp_path, command
    ) -> None:
        def scored(shard: str, out: str, status: int = 0) -> str:
            words = f"predict --model {saved_crops} --shard {shard} --out {tmp_path}/{out}"
            printed = command(words, folder, status=status)
            return printed.out + printed.err

        assert "Shard 1/2: 3 of 5 pictures.\n" in scored("1/2", "1.csv", 1)
        assert "Shard 2/2: 2 of 5 pictures.\n" in scored("2/2", "2.csv")
        assert "0 pictures.\n" in scored("9/9", "9.csv")
        command(f"predict --model {saved_crops} --out {tmp_path}/all.csv", folder, status=1)
        first, second = rows_of(tmp_path / "1.csv"), rows_of(tmp_path / "2.csv")
        assert [*chain(*zip_all([first, second]))] == rows_of(tmp_path / "all.csv")
        assert rows_of(tmp_path / "9.csv") == []
        assert (tmp_path / "9.csv").read_text().startswith("file,answer,leans,fake")

    def test_another_shard_does_not_take_up_an_interrupted_one(
        self, folder, saved_crops, tmp_path, command
    ) -> None:
        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        typed = f"predict {folder} --model {saved_crops} --out {tmp_path}/r.csv --shard"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hf_ela.cli.report.Report.write", interrupt)
            command(f"{typed} 2/2", status=130)
        assert "or with other options" in command(f"{typed} 1/2", status=2).err
        assert "2 of 5" in command(f"{typed} 2/2").out
        typed = f"predict {folder} {folder}/nowhere --model {saved_crops} --shard 2/2"
        assert f"Received: {folder}/nowhere." in command(typed, status=2).err


def zip_all(shards: list[list[Any]]) -> list[list[Any]]:
    """Put the first of all shards before the second of all, and so on."""
    longest = max(map(len, shards))
    return [[shard[at] for shard in shards if at < len(shard)] for at in range(longest)]
