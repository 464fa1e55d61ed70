"""From a folder to splits: caching, versions, streaming, refusals, groups, classes."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import multiprocess
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

import hf_ela.ela
from bad_files import encode
from conftest import (
    REPOSITORY,
    TINY,
    files_of,
    parquet,
    picture,
    wait_for,
    wait_until_gone,
    write_flat,
    write_folder,
    write_groups,
)
from hf_ela.data.loading import DataOptions, open_dataset
from hf_ela.data.preparation import Prepared, prepare
from hf_ela.data.rows import RowSettings, compute_row, file_name, hash_row
from hf_ela.ela.augmentation import training_views
from hf_ela.ela.views import align, evaluation_views
from hf_ela.errors import (
    DataError,
    DatasetNotFoundError,
    HubUnreachableError,
    LabelError,
    TooManyRejectedError,
)
from hf_ela.evaluation.evaluator import labelled_images
from hf_ela.evaluation.leak_audit.audit import audit_prepared
from hf_ela.hub.locate import locate
from hf_ela.images.loading import load_image
from hf_ela.recipes.loading import load_recipe

RECIPE = load_recipe("scratch", TINY)


def prepared(folder: Path, recipe=RECIPE, **options) -> Prepared:
    return prepare(DataOptions(source=str(folder), num_proc=1, **options), recipe)


def counts(data: Prepared) -> tuple[int, int]:
    return data.computed, data.cached


@pytest.mark.parametrize(
    ("streaming", "ela"), [(False, "cached"), (False, "in_batches"), (True, "cached")]
)
def test_rows_hold_what_the_views_functions_give(tiny, cache, streaming, ela) -> None:
    data = prepared(
        tiny, load_recipe("scratch", [*TINY, f"training.ela={ela}"]), streaming=streaming
    )
    assert data.summary["splits"]["train"]["n"] + data.summary["splits"]["validation"]["n"] == 32
    assert data.summary["splits"]["test"] == {"n": 12, "fake": 6, "real": 6}
    assert counts(data) == (44, 0)
    split = data.train
    for row, facts in zip(split.rows[:4], split.facts[:4], strict=True):
        pixels = load_image(tiny / facts["file_name"]).pixels
        expected = training_views(pixels, RECIPE, facts["key"])
        assert np.array_equal(split.store.views("augmented", int(row)), expected)
        expected = evaluation_views(pixels, RECIPE, "aligned", facts["key"])
        assert np.array_equal(split.store.views("aligned", int(row)), expected)
        assert facts["label"] == int("fake" in facts["file_name"])
        assert (facts["format"], facts["width"]) == (
            "PNG" if facts["file_name"].endswith("png") else "JPEG",
            64,
        )


@pytest.mark.second_lane
def test_an_image_to_train_on_takes_less_than_a_megabyte(real_folder, cache) -> None:
    recipe = load_recipe("scratch", ["validation.fraction=0.25"])
    store = prepared(real_folder, recipe).train.store
    assert len(store.facts) == 8
    assert sum(file.stat().st_size for file in store.files) < 8 * 1e6
    views = recipe.augmentation.views
    assert store.views("augmented", 0).shape == (views, 192, 192, 6)


@pytest.mark.parametrize("streaming", [False, True])
def test_second_preparation_computes_nothing(tiny, cache, tmp_path, streaming) -> None:
    options = {"streaming": streaming, "cache_dir": str(tmp_path / "mine")}
    first = prepared(tiny, **options)
    kept = "train-*/[0-9]*.arrow" if streaming else "cache-*.arrow"
    place = next((tmp_path / "mine").rglob(kept)).parent
    for name in (".hf_ela-1.arrow", ".hf_ela-2") if streaming else ("tmp1", ".hf_ela-1.arrow"):
        (place / name).write_bytes(b"what a killed process leaves")
    before = len(list(place.iterdir()))
    second = prepared(tiny, **options)
    assert len(list(place.iterdir())) == before - 2
    assert (counts(first), counts(second)) == ((44, 0), (0, 44))
    assert first.summary == second.summary


def test_a_cache_that_cannot_be_made_is_named(tiny, tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"^`cache_dir` must be a folder that can be written"):
        prepared(tiny, cache_dir=str(tmp_path / "file" / "in"))


def test_one_and_two_processes_share_the_cache_and_the_pixels(tiny, cache) -> None:
    first = prepared(tiny)
    options = DataOptions(source=str(tiny), num_proc=2)
    assert counts(prepare(options, RECIPE)) == (0, 44)
    shutil.rmtree(cache)
    again = prepare(options, RECIPE)
    assert counts(again) == (44, 0)
    for row in range(32):
        expected = first.train.store.views("augmented", row)
        assert np.array_equal(again.train.store.views("augmented", row), expected)


@pytest.mark.parametrize(
    ("what", "streaming"),
    [
        ("ela version", False),
        ("views version", False),
        ("codec", True),
        ("quality", False),
        ("content", False),
        ("content", True),
    ],
)
def test_whatever_changes_the_pixels_computes_again(
    tmp_path, cache, monkeypatch, streaming, what
) -> None:
    folder = write_folder(tmp_path / "data", train=5, test=2)
    options = {"streaming": streaming}
    recipe = load_recipe("scratch", [*TINY, "training.ela=cached"])
    assert counts(prepared(folder, recipe, **options)) == (14, 0)
    if what == "ela version":
        monkeypatch.setattr(
            "hf_ela.ela.error_level.ELA_VERSION", hf_ela.ela.error_level.ELA_VERSION + 1
        )
    elif what == "views version":
        monkeypatch.setattr("hf_ela.ela.views.VIEWS_VERSION", 1000)
    elif what == "codec":
        monkeypatch.setattr("PIL.__version__", "99.0")
    elif what == "quality":
        recipe = load_recipe("scratch", [*TINY, "training.ela=cached", "ela.qualities=[81]"])
    else:
        picture(77, fake=False).save(folder / "train/real/train000.png")
    computed, cached = counts(prepared(folder, recipe, **options))
    assert computed >= 10  # the train split at least
    assert computed + cached == 14


def test_neither_training_nor_error_levels_touch_the_cache(tiny, cache) -> None:
    prepared(tiny)
    other = load_recipe(
        "scratch",
        [*TINY, "training.seed=5", "training.epochs=9", "validation.seed=3", "name=x", "ela=none"],
    )
    assert counts(prepared(tiny, other)) == (0, 44)


@pytest.mark.parametrize("streaming", [False, True])
def test_who_waits_for_another_process_says_so_once(
    tmp_path, cache, monkeypatch, caplog, streaming
) -> None:
    monkeypatch.setattr("hf_ela._files.SILENT", 0.01)
    folder, options = write_folder(tmp_path / "data", train=8, test=2), {"streaming": streaming}
    options["cache_dir"] = str(cache)
    prepared(folder, **options)
    assert not caplog.messages
    locks = [*cache.rglob(".lock")]
    assert len(locks) == 2 + (not streaming)  # of each split, and of the rows
    with ThreadPoolExecutor(1) as pool:
        for lock in locks:
            with FileLock(lock):
                waiting = pool.submit(prepared, folder, **options)
                wait_for(lambda: caplog.messages)
            assert counts(waiting.result()) == (0, 20)
            assert caplog.messages == [
                f"Waiting for another process that works in {lock.parent} ..."
            ]
            caplog.clear()


def test_killed_stream_computes_only_the_missing_shards(tmp_path) -> None:
    """A real process is killed once a shard of 64 images is there; its workers follow.

    Its script does not guard itself from being imported by them.
    """
    folder = write_folder(tmp_path / "data", train=80, test=2)
    script = tmp_path / "stream.py"
    script.write_text(
        "import sys\n"
        "from hf_ela.data import DataOptions, prepare\n"
        "from hf_ela.recipes import load_recipe\n"
        "source, cache, *overrides = sys.argv[1:]\n"
        "options = DataOptions(source, streaming=True, cache_dir=cache, num_proc=2)\n"
        "prepare(options, load_recipe('scratch', overrides))\n"
    )
    slow = [*TINY, "augmentation.views=12"]
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(tmp_path / "cache"), *slow],
        cwd=REPOSITORY, start_new_session=True,
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: list((tmp_path / "cache").glob("train-*/[0-9]*.arrow")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until_gone(process.pid)
    there = list((tmp_path / "cache").glob("train-*/[0-9]*.arrow"))
    sizes = sum(64 if path.stem != "00002" else 32 for path in there)  # 160 images are 3 shards
    assert len(there) >= 1
    options = {"streaming": True, "cache_dir": str(tmp_path / "cache")}
    again = prepared(folder, load_recipe("scratch", slow), **options)
    assert counts(again) == (164 - sizes, sizes)


def test_a_worker_leaves_whose_parent_is_killed_while_it_starts() -> None:
    script = (
        "import os, signal\n"
        "from hf_ela._processes import Workers\n"
        "Workers(2).submit(print)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    assert process.wait() == -signal.SIGKILL
    wait_until_gone(process.pid)


def test_bad_images_are_skipped_and_listed(tmp_path, cache) -> None:
    folder = write_folder(tmp_path / "data", train=10, test=4)
    (folder / "train/real/broken.png").write_bytes(b"no image")
    (folder / "test/fake/empty.jpg").write_bytes(b"")
    for streaming in (False, True):
        data = prepared(folder, streaming=streaming, max_rejected=0.1)
        rejected = {bad["file"]: (bad["split"], bad["reason"]) for bad in data.summary["rejected"]}
        assert set(rejected) == {"train/real/broken.png", "test/fake/empty.jpg"}
        assert rejected["train/real/broken.png"][0] == "train"
        assert rejected["train/real/broken.png"][1].startswith("NotAnImageError: ")
        assert rejected["test/fake/empty.jpg"][1].startswith("EmptyImageError: ")
        verdict = " ".join(audit_prepared(data)["verdict"])
        assert "1 of 15 fake and 1 of 15 real images cannot be read" in verdict
        assert data.summary["splits"]["test"]["n"] == 8


def test_too_many_bad_images_are_an_error_that_says_which(tmp_path, cache) -> None:
    folder = write_folder(tmp_path / "data", train=10, test=4)
    (folder / "train/real/broken.png").write_bytes(b"no image")
    with pytest.raises(TooManyRejectedError, match=r"(?s)2.0%.*1 refused of 29.*broken\.png: Not"):
        prepared(folder)


def test_limit_takes_a_balanced_subset_of_every_split(tiny, cache) -> None:
    for streaming in (False, True):
        data = prepared(tiny, limit=8, streaming=streaming, groups=None)
        splits = data.summary["splits"]
        assert splits["test"] == {"n": 8, "fake": 4, "real": 4}
        assert splits["train"]["fake"] + splits["validation"]["fake"] == 4


def test_groups_stay_on_one_side(tiny, cache, tmp_path) -> None:
    write_groups(  # train/fake/train000.png and train001.jpg are one, and so on
        tmp_path / "groups.csv", tiny, "group", lambda name: [f"{name[:-7]}{int(name[-7:-4]) // 2}"]
    )
    data = prepared(tiny, groups=str(tmp_path / "groups.csv"))
    sides = [
        {data.groups.get(facts["file_name"], "group") for facts in split.facts}
        for split in (data.train, data.validation)
    ]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 16


def test_near_duplicates_stay_on_one_side(tmp_path, cache) -> None:
    folder = write_folder(tmp_path / "data", train=12, test=2)
    for kind in ("fake", "real"):
        for path in sorted((folder / "train" / kind).glob("*.png")):
            load_image(path).pixels.save(path.with_name(f"copy-{path.stem}.jpg"), quality=95)
    data = prepared(folder)

    def originals(split) -> set[str]:
        names = [Path(facts["file_name"]) for facts in split.facts]
        return {f"{n.parent.name}/{n.stem.removeprefix('copy-')}" for n in names}

    assert len(data.train) + len(data.validation) == 36
    assert not originals(data.train) & originals(data.validation)


def test_dataset_without_a_test_split_gets_one(tmp_path, cache) -> None:
    data = prepared(write_flat(tmp_path / "flat", 24))
    splits = data.summary["splits"]
    assert sum(split["n"] for split in splits.values()) == 48
    assert min(splits["test"]["fake"], splits["test"]["real"]) >= 1
    names = [
        facts["file_name"] for s in (data.train, data.validation, data.test) for facts in s.facts
    ]
    assert len(set(names)) == 48
    shutil.copytree(tmp_path / "flat", tmp_path / "held/test")
    with pytest.raises(DataError, match="needs a split named train"):
        prepared(tmp_path / "held")
    with pytest.raises(DataError, match="`streaming` off"):
        prepared(tmp_path / "flat", streaming=True)


def test_pages_with_little_ink_do_not_hang_together(tmp_path, cache) -> None:
    for number in range(48):
        page = Image.new("L", (64, 64), 255)
        page.putpixel((8 + number, 30), 0)
        path = tmp_path / "data" / ("fake" if number % 2 else "real") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        page.save(path)
    data = prepared(tmp_path / "data")  # splits are made of whole clusters
    assert min(len(data.train), len(data.validation), len(data.test)) > 3
    assert data.summary["test_near_duplicates_of_train"] == 0


def test_parquet_gives_the_same_views(tiny, cache, tmp_path) -> None:
    (tmp_path / "parquet").mkdir()
    for split in ("train", "test"):
        path = tmp_path / "parquet" / f"{split}-00000-of-00001.parquet"
        path.write_bytes(parquet(files_of(tiny), split))
    from_folder, from_parquet = prepared(tiny), prepared(tmp_path / "parquet")
    assert from_parquet.summary["fingerprint"] == from_folder.summary["fingerprint"]
    assert from_parquet.summary["classes"] == {"fake": "fake", "real": "real"}
    for split in ("train", "test"):  # as in a copy of the Hub's conversion
        (tmp_path / "copy/default" / split).mkdir(parents=True)
        source = tmp_path / "parquet" / f"{split}-00000-of-00001.parquet"
        shutil.copy(source, tmp_path / "copy/default" / split / "0000.parquet")
    assert prepared(tmp_path / "copy").summary["splits"] == from_folder.summary["splits"]


def test_other_class_names_need_a_map(tmp_path, cache) -> None:
    folder = write_folder(tmp_path / "data", train=10, test=3)
    for split in ("train", "test"):
        (folder / split / "fake").rename(folder / split / "machine")  # now after `human`...
        (folder / split / "real").rename(folder / split / "human")
    with pytest.raises(LabelError, match="`label_map`, such as ai=fake"):
        prepared(folder)
    with pytest.raises(LabelError, match=r"names humans, but the classes .* are human, machine"):
        prepared(folder, label_map={"machine": "fake", "humans": "real"})
    data = prepared(folder, label_map={"machine": "fake", "human": "real"})
    assert data.summary["classes"] == {"human": "real", "machine": "fake"}
    assert all(facts["label"] == ("machine" in facts["file_name"]) for facts in data.train.facts)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"limit": 1}, "at least 2"),
        ({"max_rejected": 1.5}, "from 0 to 1"),
        ({"num_proc": 0}, "at least 1"),
        ({"source": str(REPOSITORY), "revision": "main"}, "needs a dataset on the Hub"),
        ({"leave_out": "source=x"}, "as `groups`"),
        ({"leave_out": "wikiart", "groups": "g.csv"}, "COLUMN=VALUE"),
    ],
)
def test_options_out_of_range(options, rule) -> None:
    with pytest.raises(DataError, match=rule):
        DataOptions(**options)


def test_a_name_that_is_no_text_is_named(tiny, cache, tmp_path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "data")
    odd = os.fsdecode(b"\xff\xfe.png")
    try:
        (folder / "test" / "fake" / "test000.png").rename(folder / "test" / "fake" / odd)
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(DataError, match=r"must be UTF-8.*test/fake/") as refused:
        prepared(folder)
    assert odd in str(refused.value)


def test_folders_of_classes_are_asked_for_by_name(tmp_path, cache) -> None:
    folder = write_flat(tmp_path / "data", 2)
    for label in ("Fake", "Real"):
        (folder / label.lower()).rename(folder / label)
    with pytest.raises(LabelError, match=r"`label_map`, such as Fake=fake,Real=real\.$"):
        prepared(folder)
    for path in list(folder.rglob("*.*g")):
        path.rename(folder / f"{path.parent.name}-{path.name}")
    with pytest.raises(LabelError, match="in a folder for each class"):
        prepared(folder)


def test_a_folder_that_is_no_dataset(tmp_path, cache) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetNotFoundError, match="train/"):
        prepared(tmp_path / "empty")
    (tmp_path / "one/train/fake").mkdir(parents=True)
    (tmp_path / "one/train/fake/note.txt").write_text("x")
    with pytest.raises(DataError):
        prepared(tmp_path / "one")


def test_one_class_in_a_split_is_an_error(tmp_path, cache) -> None:
    folder = write_folder(tmp_path / "data", train=8, test=2)
    shutil.rmtree(folder / "test/real")
    (folder / "test/real").mkdir()
    with pytest.raises(DataError, match=r"both classes.*test"):
        prepared(folder)


def test_a_damaged_shard_is_computed_again(tiny, cache, tmp_path) -> None:
    options = {"streaming": True, "cache_dir": str(tmp_path / "mine")}
    first = prepared(tiny, **options)
    shard = next((tmp_path / "mine").glob("test-*/00000.arrow"))
    for damage in (shard.unlink, lambda: shard.write_bytes(b"")):  # as a power loss leaves it
        damage()
        again = prepared(tiny, **options)
        assert counts(again) == (12, 32)
        assert again.summary == first.summary


def test_groups_that_name_no_image_are_an_error(tiny, cache, tmp_path) -> None:
    (tmp_path / "groups.csv").write_text("file_name,group\nelsewhere/x.jpg,g\n")
    with pytest.raises(DataError, match=r"none of this dataset.*such as train/"):
        prepared(tiny, groups=str(tmp_path / "groups.csv"))


def test_splits_go_by_folders_not_by_names_of_files(tmp_path, cache) -> None:
    folder = write_flat(tmp_path / "data", 24)
    for kind in ("fake", "real"):
        (folder / kind / "train001.jpg").rename(folder / kind / "a test of ink.jpg")
    splits = prepared(folder).summary["splits"]
    assert sum(split["n"] for split in splits.values()) == 48
    assert splits["test"]["n"] < 12


def test_a_validation_split_is_taken_as_it_is(tmp_path, cache) -> None:
    folder = write_folder(tmp_path / "data", train=10, test=3)
    (folder / "valid/fake").mkdir(parents=True)
    (folder / "valid/real").mkdir()
    for i in range(3):
        picture(900 + i, fake=True).save(folder / f"valid/fake/{i}.png")
        picture(950 + i, fake=False).save(folder / f"valid/real/{i}.png")
    data = prepared(folder)
    assert data.summary["splits"]["validation"] == {"n": 6, "fake": 3, "real": 3}
    assert data.summary["splits"]["train"]["n"] == 20


def test_test_images_that_are_in_train_too_are_counted(tmp_path, cache) -> None:
    folder = write_folder(tmp_path / "data", train=10, test=3)
    assert prepared(folder).summary["test_near_duplicates_of_train"] == 0
    shutil.copy(folder / "train/real/train000.png", folder / "test/real/again.png")
    assert prepared(folder).summary["test_near_duplicates_of_train"] == 1


def test_paths_of_another_machine_do_not_get_in(tmp_path, cache) -> None:
    columns: dict[str, list] = {"image": [], "label": []}
    for i in range(24):
        picture(i, fake=i % 2 == 0).save(tmp_path / "x.png")
        path = f"/home/somebody/secret/{i}.png"
        columns["image"].append({"bytes": (tmp_path / "x.png").read_bytes(), "path": path})
        columns["label"].append("fake" if i % 2 == 0 else "real")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    rows = datasets.Dataset.from_dict(columns, features=features)
    for split in ("train", "test"):
        rows.to_parquet(tmp_path / "p" / f"{split}.parquet")
    data = prepared(tmp_path / "p")
    assert {facts["file_name"] for facts in data.test.facts} == {f"{i}.png" for i in range(24)}
    assert data.test.labels.sum() == 12


def test_labels_without_a_name_say_what_to_do(tmp_path, cache) -> None:
    picture(0, fake=True).save(tmp_path / "x.png")
    image = {"bytes": (tmp_path / "x.png").read_bytes(), "path": None}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    labels = [0, 1, -1, 0]
    rows = datasets.Dataset.from_dict({"image": [image] * 4, "label": labels}, features=features)
    for split in ("train", "test"):
        rows.to_parquet(tmp_path / "p" / f"{split}.parquet")
    with pytest.raises(LabelError, match="`label_map`, such as"):
        prepared(tmp_path / "p")
    with pytest.raises(LabelError, match="Received: -1"):
        prepared(tmp_path / "p", label_map={"0": "fake", "1": "real"})


def test_a_test_image_is_kept_as_aligned(tiny, cache) -> None:
    split = prepared(tiny).test
    row, facts = int(split.rows[0]), split.facts[0]
    kept = load_image(split.store.aligned_png(row)).pixels
    expected = align(load_image(tiny / facts["file_name"]).pixels, facts["key"])
    assert kept.tobytes() == expected.tobytes()


def test_a_source_is_left_out_of_training_and_not_of_test(tiny, cache, tmp_path) -> None:
    groups = write_groups(
        tmp_path / "groups.csv", tiny, "group,source", lambda name: (name, f"{name[-3:]}s")
    )
    options = {"groups": str(groups), "leave_out": "source=jpgs"}
    data = prepared(tiny, **options)
    for split in (data.train, data.validation):
        assert {Path(facts["file_name"]).suffix for facts in split.facts} == {".png"}
    assert len(data.train) + len(data.validation) == 16
    assert len(data.test) == 12
    assert data.summary["left_out"] == {"rule": "source=jpgs", "images": 16}
    whole = prepared(tiny, groups=str(groups))
    assert counts(whole) == (0, 44)  # folds share the ELA
    assert whole.summary["left_out"] is None
    assert whole.summary["fingerprint"] != data.summary["fingerprint"]
    with pytest.raises(DataError, match="which no image has"):
        prepared(tiny, groups=str(groups), leave_out="source=gifs")


def opened(folder: Path, **options) -> dict[str, list[str]]:
    """Names by split, as the dataset has them; nothing is computed."""
    source = open_dataset(DataOptions(source=str(folder), **options))
    return {
        split: [file_name(row["image"], source.root) or "" for row in rows]
        for split, rows in source.splits.items()
    }


def test_a_folder_is_the_one_that_is_named(tmp_path, cache) -> None:
    names = ["[a] b", "a*", "a?", "{a,b}", "a#b", "50% a", "a::b", 'it\'s "a"', "a: b", "!a ~"]
    for number, name in enumerate([*names, "a b"]):
        for label in ("fake", "real"):
            place = tmp_path / name / label / f"{number} {name}::x.jpg"
            place.parent.mkdir(parents=True)
            place.write_bytes(b"")
    for number, name in enumerate(names):
        expected = [f"{label}/{number} {name}::x.jpg" for label in ("fake", "real")]
        assert opened(tmp_path / name, streaming=number % 3 == 0) == {"train": expected}


def write_tables(folder: Path, ending: str) -> Path:
    """Write a Parquet file of two images for each split."""
    folder.mkdir()
    for split in ("train", "test"):
        images = {f"{split}/fake/a.png": b"a", f"{split}/real/b.png": b"b"}
        (folder / f"{split}{ending}").write_bytes(parquet(images, split))
    return folder


def test_parquet_is_found_in_a_folder_of_any_name(tmp_path, cache) -> None:
    folder = write_tables(tmp_path / "[x] a::b", "-00000-of-00001.parquet")
    assert opened(folder) == opened(folder, streaming=True)
    assert opened(folder) == {"train": ["a.png", "b.png"], "test": ["a.png", "b.png"]}
    shutil.copy(folder / "test-00000-of-00001.parquet", folder / "more.parquet")
    with pytest.raises(DataError, match=r"named for its split.*more\.parquet"):
        opened(folder)


def test_every_file_of_a_class_is_counted(tmp_path, cache, caplog) -> None:
    folder = write_folder(tmp_path / "data", train=10, test=2)
    picture(1, fake=True).save(folder / "train/fake/a.avif")
    picture(2, fake=True).save(folder / "train/fake/b.JFIF", "JPEG")
    picture(3, fake=True).save(folder / "train/fake/c.mpo", "MPO")
    picture(4, fake=True).save(folder / "train/fake/without an ending", "PNG")
    for name in ("d.heic", "e.psd", "f.zip"):
        (folder / "train/real" / name).write_bytes(b"something else")
    for name in ("a.txt", ".DS_Store", "Thumbs.db", "._a.png"):  # neither images nor refused
        (folder / "train/fake" / name).write_bytes(b"something else")
    data = prepared(folder, max_rejected=0.2)
    assert sum(split["n"] for split in data.summary["splits"].values()) == 24 + 4
    refused = {row["file"]: row["reason"] for row in data.summary["rejected"]}
    assert list(refused) == [f"train/real/{name}" for name in ("d.heic", "e.psd", "f.zip")]
    assert all("must be an image" in reason for reason in refused.values())
    assert "left out: 1 .txt" in caplog.text


def test_folders_that_are_links_are_followed_once(tmp_path, cache) -> None:
    folder = write_folder(tmp_path / "origin", train=2, test=1)
    linked = tmp_path / "linked"
    for split in ("train", "test"):
        (linked / split).mkdir(parents=True)
        for label in ("fake", "real"):
            (linked / split / label).symlink_to(folder / split / label)
    (linked / "train/other").symlink_to(folder / "train/fake")
    (folder / "train/fake/loop").symlink_to(folder / "train")
    assert opened(linked) == opened(linked, streaming=True)
    names = [f"{name}.{end}" for name, end in (("train000", "png"), ("train001", "jpg"))]
    found = opened(linked)
    assert [Path(name).name for name in found["train"]] == names * 2
    assert found["test"] == ["test/fake/test000.png", "test/real/test000.png"]
    (tmp_path / "whole").symlink_to(linked)
    assert opened(tmp_path / "whole") == found


def test_a_folder_beside_the_splits_takes_nothing_from_them(tmp_path, cache, caplog) -> None:
    folder = write_folder(tmp_path / "data", train=2, test=1)
    (folder / "train").rename(folder / "all")
    for label in ("fake", "real"):
        place = folder / "train" / label
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(folder / "all" / label)
    assert len(opened(folder)["train"]) == 4
    shutil.rmtree(folder / "test/real")
    (folder / "test/real").symlink_to(folder / "all/real")
    assert opened(folder)["test"] == ["test/fake/test000.png"]  # seen in train
    assert "is not read again" in caplog.text


def test_no_split_and_no_image_is_passed_over_in_silence(tmp_path, cache, caplog) -> None:
    folder = write_folder(tmp_path / "data/pool", train=2, test=1)
    with pytest.raises(DatasetNotFoundError, match=r"Name .*data/pool"):
        opened(folder.parent)
    (folder / "more").mkdir()
    picture(1, fake=True).save(folder / "more/a.png")
    assert set(opened(folder)) == {"train", "test"}
    assert "outside of the splits are not used: 1." in caplog.text
    table = folder / "metadata.csv"
    table.write_text("file_name,label\ntrain/fake/train000.png,real\n")
    with pytest.raises(DataError, match=r"needs its own.*has none"):
        opened(folder)
    table = table.rename(folder / "train/metadata.csv")
    with pytest.raises(DataError, match=r"needs its own.*test has none"):
        opened(folder)
    table.write_text("file_name,label\nfake/train000.png,real\nreal/train000.png,fake\n")
    shutil.rmtree(folder / "test")
    assert opened(folder) == {"train": ["train/fake/train000.png", "train/real/train000.png"]}
    assert "leaves out 2 images" in caplog.text
    (folder / "train/metadata.jsonl").write_text(
        '{"file_name": "fake/train000.png", "label": "real"}'
    )
    with pytest.raises(DataError, match="one table"):
        opened(folder)
    (folder / "train/metadata.jsonl").unlink()
    table.write_text("file_name;label\nfake/train000.png;real\n")
    with pytest.raises(DataError, match="semicolons"):
        opened(folder)


def test_a_split_of_parquet_is_named_next_to_the_file(tmp_path, cache) -> None:
    folder = write_tables(tmp_path / "train_test_split", ".parquet")
    picture(1, fake=True).save(folder / "figure.png")
    assert opened(folder) == {"train": ["a.png", "b.png"], "test": ["a.png", "b.png"]}
    (folder / "test.parquet").rename(folder / "dev_test.parquet")
    with pytest.raises(DataError, match="of one split"):
        opened(folder)


def test_an_archive_is_to_be_unpacked(tmp_path, cache) -> None:
    folder = write_folder(tmp_path / "data", train=1, test=1)
    archive = Path(shutil.make_archive(str(tmp_path / "packed/data"), "zip", folder))
    for source in (archive, archive.parent):
        with pytest.raises(DataError, match=r"zip\. Unpack"):
            opened(source)


def test_a_replaced_file_with_its_old_time_is_computed_again(tmp_path, cache) -> None:
    folder = write_folder(tmp_path / "data", train=4, test=2)
    path = folder / "test/fake/test000.png"
    before = path.stat()
    old = {streaming: prepared(folder, streaming=streaming) for streaming in (False, True)}
    path.write_bytes(path.read_bytes()[:-1] + b"\0")  # of the same size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for streaming, data in old.items():
        again = prepared(folder, streaming=streaming)
        assert again.summary["fingerprint"] != data.summary["fingerprint"]


def test_a_cell_without_an_image_is_refused(tmp_path, cache, monkeypatch) -> None:
    monkeypatch.setattr("datasets.config.IN_MEMORY_MAX_SIZE", 10**9)
    rows = {"image": [None], "label": ["fake"]}
    for number in range(10):
        picture(number, fake=number % 2 == 0).save(tmp_path / "x.png")
        rows["image"].append({"bytes": (tmp_path / "x.png").read_bytes(), "path": None})
        rows["label"].append("real" if number % 2 else "fake")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    (tmp_path / "p").mkdir()
    for split in ("train", "test"):
        datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "p" / f"{split}.parquet")
    for streaming in (False, True):
        data = prepared(tmp_path / "p", max_rejected=0.1, streaming=streaming)
        assert [row["reason"] for row in data.summary["rejected"]] == [
            "ImageNotReadableError: the cell of this row is empty"
        ] * 2
        assert data.summary["splits"]["test"]["n"] == 10


def test_labels_of_a_table_are_asked_for_by_name(tmp_path, cache) -> None:
    lines = ["file_name,label"]
    for number in range(12):
        picture(number, fake=number % 2 == 0).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'Human' if number % 2 else 'AI'}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    with pytest.raises(LabelError, match=r"Received: AI, Human\..*`label_map`"):
        prepared(tmp_path)
    few = load_recipe("scratch", [*TINY, "validation.fraction=0.1"])
    with pytest.raises(DataError, match=r"Received: \d and \d .*larger validation\.fraction"):
        prepared(tmp_path, few, label_map={"AI": "fake", "Human": "real"})
    data = prepared(tmp_path, label_map={"AI": "fake", "Human": "real"})
    assert len(data.train) + len(data.validation) + len(data.test) == 12
    half = {"Human": "real"}
    for wrong, said in (
        (half, r"Received: AI\..*map all other names"),
        ({"AI": "fake", "human": "real"}, "names human, but the classes .* are AI, Human"),
        ({"AI": "fake", "Human": "real", "X": "real"}, "names X, but the classes .* are AI, Human"),
        ({"AI": "fake", "Human": "fake"}, "AI, Human, without real.*correct `label_map`"),
    ):
        with pytest.raises(LabelError, match=said):
            opened(tmp_path, label_map=wrong)
    stream = open_dataset(DataOptions(str(tmp_path), streaming=True, label_map=half))
    with pytest.raises(LabelError, match=r"must be one of Human, fake\. Received: AI for 0\.png"):
        next(labelled_images(stream, "train"))
    (tmp_path / "metadata.csv").write_text("\n".join(lines).replace("AI", "fake"))
    assert open_dataset(DataOptions(str(tmp_path), label_map=half)).classes == {
        "Human": "real",
        "fake": "fake",
    }
    (tmp_path / "metadata.csv").write_text("file_name,label\n../x.png,AI\n")
    with pytest.raises(DataError, match="in its own folder"):
        opened(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,label\n")
    with pytest.raises(DataError, match=r"metadata\.csv, without a row"):
        opened(tmp_path)
    for damaged in (b"", "file_name,label\n0.png,künstlich\n".encode("latin-1")):
        (tmp_path / "metadata.csv").write_bytes(damaged)
        with pytest.raises(DataError, match=r"readable, in UTF-8.*metadata\.csv: "):
            opened(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_worker_is_said(tiny, cache) -> None:
    def kill() -> None:
        while len([*cache.rglob("tmp*")]) < 2:  # both are at work
            threading.Event().wait(0.01)
        os.kill(min(child.pid for child in multiprocess.active_children()), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    long = load_recipe("scratch", [*TINY, "augmentation.views=64"])
    with pytest.raises(DataError, match=r"worker process was killed.*memory.*`num_proc`"):
        prepare(DataOptions(source=str(tiny), num_proc=2), long)
    killer.join()


def test_a_mistyped_folder_is_said_at_once(monkeypatch, tmp_path) -> None:
    unreachable = "http://127.0.0.1:1"
    files = f"{unreachable}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits for another try"))
    with pytest.raises(HubUnreachableError, match=r"not be reached.*Nor is runs/typo a local"):
        opened("runs/typo")
    with pytest.raises(HubUnreachableError, match=r"not be reached.*No local folder runs/typo"):
        locate("runs/typo")


def test_an_image_that_does_not_fit_in_memory_is_one_refused_row(monkeypatch) -> None:
    def hungry(image: Image.Image) -> int:
        return int(np.empty(2**60, np.uint8)[0])

    monkeypatch.setattr("hf_ela.data.rows.perceptual_hash", hungry)
    recipe = load_recipe("scratch").preprocessing
    settings = RowSettings(recipe, ("as_is",), {"0": "fake"}, "train", "x", False)
    image = {"bytes": encode(Image.new("RGB", (9, 9)), "PNG"), "path": "a.png"}
    row = compute_row(image, 0, 0, settings=settings.to_json())
    assert (row["file_name"], row["views_as_is"]) == ("a.png", None)
    assert row["error"] == "ImageTooLargeError: does not fit in memory"
    hashed = hash_row(image, 7, root="x", versions={})
    assert (hashed["key"], hashed["perceptual_hash"]) == ("7", 0)
