"""The synthetic sample set: the same bytes again, no leak, no half set, usable as a dataset."""

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conftest import ctrl_c_is_heard, wait_for
from hf_ela.data.synthetic.dataset import write_samples
from hf_ela.ela.error_level import error_level
from hf_ela.errors import DataError

TRAIN, TEST = 30, 10


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return write_samples(
        tmp_path_factory.mktemp("synthetic") / "set", per_class=TRAIN, test_per_class=TEST
    )


@pytest.fixture(scope="module")
def rows(samples):
    with (samples / "groups.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _label(row):
    return row["file_name"].split("/")[1]


def _contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _pairs(rows):
    pairs = {}
    for row in rows:
        pairs.setdefault(row["group"], {})[_label(row)] = row
    return pairs


def _auc(rows, scores):
    """ROC AUC, 0.5 being chance."""
    return roc_auc_score([_label(row) == "fake" for row in rows], scores)


def test_the_same_settings_give_the_same_bytes_in_one_process_and_in_two(tmp_path):
    one = write_samples(tmp_path / "one", per_class=3, test_per_class=2, seed=5)
    two = write_samples(tmp_path / "two", per_class=3, test_per_class=2, seed=5, num_proc=2)
    assert _contents(one) == _contents(two)


def test_another_seed_gives_other_pictures(tmp_path):
    first, second = (
        _contents(write_samples(tmp_path / str(seed), per_class=2, test_per_class=1, seed=seed))
        for seed in (0, 1)
    )
    jpegs = [name for name in first if name.endswith(".jpg")]
    assert jpegs
    assert all(first[name] != second[name] for name in jpegs)


def test_no_picture_comes_twice(samples):
    files = [path.read_bytes() for path in samples.rglob("*.jpg")]
    assert len(set(files)) == len(files) == 2 * (TRAIN + TEST)


def test_classes_are_balanced_in_both_splits(samples, rows):
    sizes = {"train": TRAIN, "test": TEST}
    expected = {(split, kind): n for split, n in sizes.items() for kind in ("fake", "real")}
    assert Counter(tuple(row["file_name"].split("/")[:2]) for row in rows) == expected
    on_disk = Counter(path.relative_to(samples).parts[:2] for path in samples.rglob("*.jpg"))
    assert on_disk == expected
    assert all((samples / row["file_name"]).is_file() for row in rows)


def test_both_files_of_a_picture_share_size_and_jpeg_history(samples, rows):
    histories = set()
    for pair in _pairs(rows).values():
        facts = []
        for label in ("fake", "real"):
            with Image.open(samples / pair[label]["file_name"]) as image:
                facts.append(
                    (image.format, image.mode, image.size, image.quantization, image.layer)
                )
        assert facts[0] == facts[1]
        histories.add(repr(facts[0]))
    assert len(histories) > TRAIN  # and pictures differ among each other


def test_groups_never_cross_the_split(rows):
    pairs = _pairs(rows)
    assert len(pairs) == TRAIN + TEST
    for pair in pairs.values():
        assert set(pair) == {"fake", "real"}
        assert len({row["file_name"].split("/")[0] for row in pair.values()}) == 1


def test_fakes_differ_from_their_originals_but_only_a_little(samples, rows):
    for pair in _pairs(rows).values():
        fake, real = (
            np.asarray(Image.open(samples / pair[label]["file_name"]).convert("L"), np.float32)
            for label in ("fake", "real")
        )
        assert np.corrcoef(fake.ravel(), real.ravel())[0, 1] > 0.6
        assert np.abs(fake - real).mean() > 0.5


def _file_facts(path):
    with Image.open(path) as image:
        pixels = image.width * image.height
        table = sum(image.quantization[0])
    length = path.stat().st_size
    return {"length": length, "length per pixel": length / pixels, "pixels": pixels, "table": table}


def _residual_statistics(path):
    """Mean and deviation of the residual at each of the 8x8 places of a JPEG block."""
    with Image.open(path) as image:
        residual = error_level(image.convert("RGB"), 90, signed=True).astype(np.float32).mean(2)
    height, width = (side // 8 * 8 for side in residual.shape)
    blocks = residual[:height, :width].reshape(height // 8, 8, width // 8, 8)
    blocks = blocks - np.median(blocks)
    level = np.abs(blocks).mean()
    return np.concatenate(
        [(np.abs(blocks).mean((0, 2)) / level).ravel(), (blocks.std((0, 2)) / level).ravel()]
    )


def test_the_residual_tells_the_classes_apart_and_the_file_does_not(samples, rows):
    paths = [samples / row["file_name"] for row in rows]
    facts = [_file_facts(path) for path in paths]
    leaks = {name: _auc(rows, [fact[name] for fact in facts]) for name in facts[0]}
    assert all(0.3 <= auc <= 0.7 for auc in leaks.values()), leaks

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    scores = cross_val_predict(
        probe,
        np.stack([_residual_statistics(path) for path in paths]),
        [_label(row) == "fake" for row in rows],
        groups=[row["group"] for row in rows],
        cv=GroupKFold(5),
        method="predict_proba",
    )[:, 1]
    assert _auc(rows, scores) > 0.75 > max(leaks.values())


@pytest.mark.parametrize(
    ("stop", "num_proc"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGKILL, 2)]
)
def test_an_interrupted_writing_leaves_nothing_at_the_target(tmp_path, stop, num_proc):
    target = tmp_path / "samples"
    code = (
        "import sys\n"
        "from hf_ela.data.synthetic.dataset import write_samples\n"
        "write_samples(sys.argv[1], per_class=5000, num_proc=int(sys.argv[2]))\n"
    )
    script = tmp_path / "write.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, script, target, str(num_proc)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=ctrl_c_is_heard,
    )
    try:
        wait_for(lambda: any(tmp_path.rglob("*.jpg")), process)
    finally:
        os.killpg(process.pid, stop)  # as Ctrl-C does, workers included
        process.wait(60)
    assert process.returncode != 0
    assert not target.exists()
    if stop == signal.SIGINT:
        assert [path.name for path in tmp_path.iterdir()] == ["write.py"]

    write_samples(target, per_class=1, test_per_class=1)
    assert len(list(target.rglob("*.jpg"))) == 4


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_a_killed_worker_is_said(tmp_path):
    def kill():
        wait_for(lambda: any(tmp_path.rglob("*.jpg")))
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    with ThreadPoolExecutor(1) as killer:
        killer.submit(kill)
        with pytest.raises(DataError, match=r"worker process was killed.*memory.*`num_proc`"):
            write_samples(tmp_path / "set", per_class=5000, num_proc=2)
    assert not list(tmp_path.iterdir())


def test_a_complete_set_is_kept_and_says_so(tmp_path, capsys):
    folder = write_samples(tmp_path / "set", per_class=1, test_per_class=1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_samples(folder, per_class=1, test_per_class=1, progress=True) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "kept" in capsys.readouterr().err


def test_other_settings_or_foreign_files_are_refused_and_left_alone(tmp_path):
    folder = write_samples(tmp_path / "set", per_class=1, test_per_class=1)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    before = _contents(tmp_path)
    with pytest.raises(DataError, match=r"seed 0.*requested: .*seed 7"):
        write_samples(folder, per_class=1, test_per_class=1, seed=7)
    with pytest.raises(DataError, match="other files"):
        write_samples(foreign, per_class=1, test_per_class=1)
    with pytest.raises(DataError, match="other files"):
        write_samples(foreign / "notes.txt", per_class=1, test_per_class=1)
    assert _contents(tmp_path) == before


def test_an_empty_folder_may_be_there_and_parents_need_not(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "deep"):
        write_samples(str(folder), per_class=1, test_per_class=1)
        assert (folder / "samples.json").is_file()


@pytest.mark.parametrize("wrong", [{"per_class": 0}, {"test_per_class": -1}, {"seed": -1}])
def test_counts_out_of_range_are_named(tmp_path, wrong):
    (name,) = wrong
    with pytest.raises(DataError, match=f"`{name}` must be at least .* Received: {wrong[name]}"):
        write_samples(tmp_path / "set", **wrong)
    assert not list(tmp_path.iterdir())


def test_the_folder_says_that_it_is_synthetic(samples):
    text = (samples / "README.md").read_text()
    assert "not art" in text
    assert "{" not in text
    assert json.loads((samples / "samples.json").read_text())["settings"]["per_class"] == TRAIN


def test_datasets_reads_it_as_an_imagefolder(samples, tmp_path):
    from datasets import load_dataset

    dataset = load_dataset("imagefolder", data_dir=str(samples), cache_dir=str(tmp_path))
    sizes = {name: len(split) for name, split in dataset.items()}
    assert sizes == {"train": 2 * TRAIN, "test": 2 * TEST}
    assert dataset["train"].features["label"].names == ["fake", "real"]
    for row in dataset["test"]:
        folder = Path(row["image"].filename).parent.name
        assert folder == ("fake", "real")[row["label"]]
