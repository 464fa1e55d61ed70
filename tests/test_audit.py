"""The leak audit finds what is planted, says which fact it is, and keeps quiet without a leak."""

import json
import shutil
import sys
import tracemalloc
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from conftest import picture, write_flat
from hf_ela.data.duplicates import find_duplicates
from hf_ela.data.groups import GroupTable, clusters
from hf_ela.data.loading import DataOptions
from hf_ela.errors import DataError
from hf_ela.evaluation.leak_audit.audit import audit, audit_facts

NONE = GroupTable({}, {})
SPLITS = (("train", 30), ("test", 10))


def write(folder: Path, fake: dict[str, Any], real: dict[str, Any]) -> Path:
    """An imagefolder of the same noise in both classes, saved as each class is told."""
    for split, n in SPLITS:
        for kind, how in (("fake", fake), ("real", real)):
            (folder / split / kind).mkdir(parents=True)
            for i in range(n):
                image = picture(i + 1000 * (kind == "fake") + 100 * (split == "test"), fake=False)
                suffix = how.get("format", "JPEG").lower()
                image.save(folder / split / kind / f"{i:03d}.{suffix}", **how)
    return folder


def audited(folder: Path, sample: int, **options: Any) -> dict[str, Any]:
    return audit(DataOptions(str(folder), num_proc=1, **options), sample=sample, resamples=20)


def audit_of(splits: dict[str, list[dict[str, Any]]], groups: GroupTable) -> dict[str, Any]:
    return audit_facts(splits, groups, resamples=20)


def row(number: int, label: int, **facts: Any) -> dict[str, Any]:
    """Facts of a JPEG that tell nothing, with a hash far from all others."""
    rng = np.random.default_rng([number, label])
    return {
        "file_name": f"{label}/{number}.jpg",
        "label": label,
        "key": f"{label} {number}",
        "perceptual_hash": int(rng.integers(-(2**63), 2**63)),
        "format": "JPEG",
        "mode": "RGB",
        "width": int(rng.integers(300, 600)),
        "height": int(rng.integers(300, 600)),
        "bytes": int(rng.integers(40_000, 60_000)),
        "jpeg_quality": int(rng.integers(70, 98)),
        "subsampling": "4:2:0",
        "exif": False,
        "icc": False,
        "mean_error_level": float(rng.normal(2, 0.4)),
    } | facts


def rows(n: int = 60, fake: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """So many of each class by turns; `fake` is what all fakes have."""
    return [row(i, label, **(fake or {} if label else {})) for i in range(n) for label in (1, 0)]


def said(found: dict[str, Any]) -> str:
    return "\n".join(found["verdict"])


# ------------------------------------------------------------------------------------------- leaks


def test_a_leak_in_files_is_found_and_named(tmp_path, cache) -> None:
    folder = write(tmp_path / "data", {"format": "PNG"}, {"quality": 90})
    found = audited(folder, sample=0)
    assert found["classifiers"]["file_facts"]["roc_auc"]["value"] > 0.99
    assert found["facts"][0]["fact"] == "format"
    assert {"fact": "format", "value": "PNG", "fake": 40, "real": 0, "gap": 1.0} in found["values"]
    assert found["images"] == {"train": {"fake": 30, "real": 30}, "test": {"fake": 10, "real": 10}}
    assert "File facts alone reveal nearly all of the class" in said(found)
    assert "The format carries most of it (1.000 alone)" in said(found)
    assert "Only fake images have format PNG (40 images)" in said(found)
    assert "matrix" not in found
    json.dumps(found, allow_nan=False)


def test_without_a_leak_none_is_found(tmp_path, cache) -> None:
    found = audited(write(tmp_path / "data", {"quality": 90}, {"quality": 90}), sample=0)
    assert found["classifiers"]["file_facts"]["roc_auc"]["low"] < 0.55
    assert found["values"] == []
    assert "File facts alone reveal nothing significant about the class" in said(found)
    assert "Only" not in said(found)


@pytest.mark.parametrize(
    ("fact", "value", "words"),
    [
        ("jpeg_quality", 75, "The JPEG quality carries most of it"),
        ("mode", "RGBA", "The mode|The pixel layout"),
        ("subsampling", "4:4:4", "The chroma subsampling carries"),
        ("exif", True, "The presence of EXIF carries"),
        ("icc", True, "The presence of a colour profile carries"),
        ("bytes", 1_000, "The number of bytes per pixel carries"),
    ],
)
def test_each_fact_can_be_the_leak(fact, value, words) -> None:
    found = audit_of({"train": rows(fake={fact: value})}, NONE)
    assert found["facts"][0]["fact"] == fact.replace("bytes", "bytes_per_pixel")
    assert found["facts"][0]["roc_auc"]["low"] > 0.9
    assert any(word in found["verdict"][0] for word in words.split("|"))


def test_a_leak_of_a_small_class_is_found_and_named() -> None:
    few = [row(i, 0, format="PNG", jpeg_quality=None, subsampling=None) for i in range(6)]
    found = audit_of({"train": [row(i, 1) for i in range(150)] + few}, NONE)
    alone = {fact["fact"]: fact["roc_auc"]["value"] for fact in found["facts"]}
    assert alone["format"] == 1
    assert found["classifiers"]["file_facts"]["roc_auc"]["value"] == 1
    assert "The format carries most of it" in said(found)


@pytest.mark.parametrize("jpegs", [0, 1, 4])
def test_files_without_a_jpeg_quality_can_be_audited(jpegs) -> None:
    some = rows(60, {"width": 777})
    for one in some[jpegs:]:
        one.update(format="PNG", jpeg_quality=None, subsampling=None)
    found = audit_of({"train": some}, NONE)
    assert found["classifiers"]["file_facts"]["roc_auc"]["value"] > 0.95
    assert found["facts"][0]["fact"] in ("width", "shape", "size")


def test_a_leak_in_error_levels_is_told_from_one_in_files() -> None:
    facts = rows()
    for fact in facts:
        fact["mean_error_level"] += 2 * fact["label"]
    found = audit_of({"train": facts}, NONE)
    assert found["classifiers"]["mean_error_level"]["roc_auc"]["low"] > 0.9
    assert found["classifiers"]["file_facts"]["roc_auc"]["low"] < 0.55
    assert "The mean error level alone reveals nearly all of the class" in said(found)


def test_a_group_is_never_on_both_sides(tmp_path) -> None:
    """Each group has a size of its own, which says nothing about a group that is held out."""
    facts, lines = [], ["file_name,group"]
    for i, fact in enumerate(rows(100)):
        group = i % 10
        facts.append(fact | {"width": 1000 + group * 3 % 10 * 50, "height": 900})
        lines.append(f"{fact['file_name']},{group}")
    (tmp_path / "groups.csv").write_text("\n".join(lines))
    alone = audit_of({"train": facts}, NONE)
    grouped = audit_of({"train": facts}, GroupTable.read(tmp_path / "groups.csv"))
    assert alone["classifiers"]["file_facts"]["roc_auc"]["value"] > 0.95
    assert grouped["classifiers"]["file_facts"]["roc_auc"]["value"] < 0.75


def grouped(facts: list[dict[str, Any]], size: int, path: Path) -> GroupTable:
    """Groups of images of one class, so many in each."""
    lines = [
        f"{fact['file_name']},{fact['label']} {i // 2 // size}" for i, fact in enumerate(facts)
    ]
    path.write_text("\n".join(["file_name,group", *lines]))
    return GroupTable.read(path)


def test_what_whole_groups_have_in_common_tells_nothing_of_the_class(tmp_path) -> None:
    """Ten groups a class, each saved in its own way: by images a leak, by groups none."""
    rng = np.random.default_rng(0)
    facts = rows(200)
    of_group = {}
    for i, fact in enumerate(facts):
        key = (fact["label"], i // 2 // 20)
        quality, level = of_group.setdefault(key, (int(rng.integers(70, 98)), rng.normal()))
        fact |= {"jpeg_quality": quality}
        fact["mean_error_level"] += level
    with_groups = grouped(facts, 20, tmp_path / "groups.csv")
    for table, leaks in ((with_groups, False), (NONE, True)):
        found = audit_of({"train": facts}, table)
        assert bool(found["values"]) == leaks
        assert any("reveal" in sentence for sentence in leaks_in(found)) == leaks


def leaks_in(found: dict[str, Any]) -> list[str]:
    return [sentence for sentence in found["verdict"] if "nothing significant" not in sentence]


def test_a_value_of_one_group_alone_is_not_listed(tmp_path) -> None:
    facts = rows(60, fake={"format": "PNG"})
    by_images = audit_of({"train": facts}, NONE)
    by_groups = audit_of({"train": facts}, grouped(facts, 60, tmp_path / "groups.csv"))
    assert [value["value"] for value in by_images["values"]] == ["JPEG", "PNG"]
    assert by_groups["values"] == []


def test_a_shape_is_said_to_stay_when_images_are_aligned() -> None:
    found = audit_of({"train": rows(fake={"width": 512, "height": 512})}, NONE)
    listed = {(value["fact"], value["value"]): value for value in found["values"]}
    assert listed["shape", "square"]["fake"] == 60
    assert found["tables"]["fake"]["quartiles"]["aspect"] == [1] * 5
    assert "Aligning keeps the shape of an image" in said(found)
    assert "Aligning" not in said(audit_of({"train": rows()}, NONE))


def test_a_fact_that_all_real_images_have_is_named_once() -> None:
    facts = [fact | {"exif": not fact["label"]} for fact in rows()]
    found = audit_of({"train": facts}, NONE)
    assert [(v["fact"], v["value"]) for v in found["values"]] == [("exif", "yes")]
    assert "Only real images have EXIF (60 images)." in found["verdict"]


def test_a_split_of_one_class_is_said() -> None:
    facts = {"train": rows(), "test": [row(i, 1) for i in range(60, 66)]}
    assert "The split test has no readable real images" in said(audit_of(facts, NONE))


def test_too_few_images_are_said() -> None:
    found = audit_of({"train": rows(4)}, NONE)
    assert found["classifiers"] == {"file_facts": None, "mean_error_level": None}
    assert "4 fake and 4 real images are too few to measure" in said(found)
    found = audit_of({"train": rows(12)}, NONE)
    assert "12 fake and 12 real images are too few to tell whether file facts" in said(found)
    assert "It takes about 25 of each class." in said(found)


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"two classes.*9 fake and 0 real"):
        audit_of({"train": [row(i, 1) for i in range(9)]}, NONE)


def test_a_groups_file_that_names_a_few_images_is_said(tmp_path) -> None:
    some = rows()
    named = tmp_path / "groups.csv"
    sentence = "of 120 images: each of the others counts as a group of its own."
    for count in (3, 120):
        names = "".join(f"{one['file_name']},{n}\n" for n, one in enumerate(some[:count]))
        named.write_text(f"file_name,group\n{names}")
        found = audit_of({"train": some}, GroupTable.read(named))
        assert found["groups"] == {"matched": count}
        assert (f"The groups file names 3 {sentence}" in said(found)) == (count == 3)


def test_a_class_of_which_nothing_can_be_read_is_told_why(cache, tmp_path) -> None:
    folder = write_flat(tmp_path / "data", 3)
    for path in (folder / "real").iterdir():
        path.write_text("no image")
    with pytest.raises(DataError, match="3 fake and 0 real images; 3 cannot be read") as caught:
        audited(folder, sample=0)
    assert str(caught.value).count("NotAnImageError") == 3


def test_a_folder_without_a_class_is_told_which(cache, tmp_path) -> None:
    folder = write_flat(tmp_path / "data", 3)
    shutil.rmtree(folder / "real")
    with pytest.raises(DataError, match=r"Received: fake, without real\. Add"):
        audited(folder, sample=0)


# ------------------------------------------------------------------------- copies, order and tables


def test_copies_are_found_within_and_across_splits_and_classes(tmp_path, cache) -> None:
    folder = write(tmp_path / "data", {"quality": 90}, {"quality": 90})
    shutil.copy(folder / "train/fake/000.jpeg", folder / "test/fake/copy.jpeg")
    shutil.copy(folder / "train/real/001.jpeg", folder / "train/real/same.jpeg")
    picture(2, fake=False).save(folder / "test/fake/near.jpeg", quality=95)  # real in train
    found = audited(folder, sample=0)
    exact, near = found["duplicates"]["exact"], found["duplicates"]["near"]
    assert [exact[name] for name in ("pairs", "across_splits", "across_classes")] == [2, 1, 0]
    assert exact["listed"][0] == {
        "files": ["train/fake/000.jpeg", "test/fake/copy.jpeg"],
        "splits": ["train", "test"],
        "labels": ["fake", "fake"],
    }
    assert [near[name] for name in ("pairs", "images", "across_classes")] == [1, 2, 1]
    assert near["conflicts"][0]["labels"] == ["real", "fake"]
    assert near["listed"] == []
    assert "In two splits: 1 pair of exact copies." in found["verdict"]
    assert "In both classes: 1 pair of near-duplicates. Unless" in said(found)
    assert "sorted by class" not in said(found)  # as in every folder of images


def test_all_pairs_are_counted_and_twenty_listed() -> None:
    facts = rows()
    for fact in facts[:16]:
        fact["perceptual_hash"] = 0x0F0F0F0F
    near = audit_of({"train": facts}, NONE)["duplicates"]["near"]
    assert (near["pairs"], near["images"], near["across_classes"]) == (120, 16, 64)
    assert (len(near["listed"]), len(near["conflicts"])) == (20, 20)
    assert near["conflicts"][0]["files"] == ["1/0.jpg", "0/0.jpg"]


def naive(splits: dict[str, list[dict]]) -> dict[str, Any]:
    """The pairs one by one."""
    images = [(split, fact) for split, listed in splits.items() for fact in listed]
    pairs: dict[str, list[dict[str, Any]]] = {"exact": [], "near": []}
    members: dict[str, set[int]] = {"exact": set(), "near": set()}
    for (i, one), (j, other) in combinations(enumerate(images), 2):
        different = one[1]["perceptual_hash"] ^ other[1]["perceptual_hash"]
        if (different & (2**64 - 1)).bit_count() <= 3:
            kind = "exact" if one[1]["key"] == other[1]["key"] else "near"
            members[kind] |= {i, j}
            files = [fact["file_name"] for _, fact in (one, other)]
            labels = ["fake" if fact["label"] else "real" for _, fact in (one, other)]
            pairs[kind].append({"files": files, "splits": [one[0], other[0]], "labels": labels})
    result = {}
    for kind, found in pairs.items():
        alike = [pair for pair in found if len({*pair["labels"]}) == 1]
        conflicts = [pair for pair in found if len({*pair["labels"]}) == 2]
        result[kind] = {
            "pairs": len(found),
            "images": len(members[kind]),
            "across_splits": sum(len({*pair["splits"]}) == 2 for pair in found),
            "across_classes": len(conflicts),
            "listed": sorted(alike, key=lambda pair: len({*pair["splits"]}) == 1)[:20],
            "conflicts": conflicts[:20],
        }
    return result


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), n=st.sampled_from([1, 9, 60, 300]), originals=st.integers(1, 40))
def test_copies_are_those_of_all_pairs_one_by_one(seed, n, originals) -> None:
    rng = np.random.default_rng(seed)
    facts = []
    for number in range(n):
        value = row(int(rng.integers(originals)), 0)["perceptual_hash"] ^ int(
            rng.choice([0, 0, 1, 6, 0x70])
        )
        key = f"{value} {rng.integers(2)}"
        facts.append(row(number, int(rng.integers(2)), key=key, perceptual_hash=value))
    first, second = sorted(rng.integers(0, n + 1, size=2).tolist())
    splits = {"train": facts[:first], "validation": facts[first:second], "test": facts[second:]}
    assert find_duplicates(splits) == naive(splits)


def test_a_thousand_equal_pictures_take_no_memory_for_half_a_million_pairs() -> None:
    facts = [row(i, i % 2, perceptual_hash=0x0F0F0F0F) for i in range(1000)]
    tracemalloc.start()
    near = find_duplicates({"train": facts})["near"]
    members = clusters(facts, NONE)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (near["pairs"], near["images"], near["across_classes"]) == (499_500, 1000, 250_000)
    assert set(members) == {0}
    assert most < 20e6


def test_line_art_on_white_is_no_copy(tmp_path, cache) -> None:
    folder = write(tmp_path / "data", {"quality": 90}, {"quality": 90})
    for split, _ in SPLITS:
        for place, kind in enumerate(("fake", "real")):
            page = Image.new("RGB", (96, 96), "white")
            x, y = 10 + 40 * place, 40 if split == "test" else 60
            ImageDraw.Draw(page).line((x, y, x + 4, y), "black", 2)
            page.save(folder / split / kind / "ink.png")
    shutil.copy(folder / "train/fake/ink.png", folder / "test/real/same.png")
    copies = audited(folder, sample=0)["duplicates"]
    assert copies["near"]["pairs"] == 0
    (conflict,) = copies["exact"]["conflicts"]
    assert conflict["files"] == ["train/fake/ink.png", "test/real/same.png"]


def test_class_order_is_found() -> None:
    facts = rows()
    in_order = sorted(facts, key=lambda fact: fact["label"])
    found = audit_of({"train": in_order, "test": facts}, NONE)
    assert found["order"] == {
        "train": {"runs": 2, "sorted": True},
        "test": {"runs": 120, "sorted": False},
    }
    assert "sorted by class (train)" in said(found)


def test_tables_describe_each_class() -> None:
    facts = rows(fake={"format": "PNG", "jpeg_quality": None, "subsampling": None, "width": 500})
    tables = audit_of({"train": facts}, NONE)["tables"]
    assert tables["fake"]["values"]["format"] == {"PNG": 60}
    assert tables["fake"]["values"]["subsampling"] == {}
    assert tables["fake"]["quartiles"]["jpeg_quality"] is None
    assert tables["fake"]["quartiles"]["width"] == [500] * 5
    assert tables["real"]["values"]["format"] == {"JPEG": 60}
    assert tables["real"]["values"]["exif"] == {"no": 60}


# ------------------------------------------------------------------------------- matrix and command


def test_the_matrix_tells_file_history_from_the_rest(tmp_path, cache) -> None:
    """The same noise, in one class saved twice: it shows as-is, hardly once all were resized."""
    folder = write(tmp_path / "data", {"quality": 75}, {"format": "PNG"})
    found = audited(folder, sample=36)
    assert found["matrix"]["images"] == {"fake": 36, "real": 36}
    cells = found["matrix"]["cells"]
    assert list(cells) == ["as_is", "aligned", "jpeg_95", "resized"]
    assert all(list(row) == list(cells) for row in cells.values())
    assert cells["as_is"]["as_is"]["roc_auc"]["value"] > 0.95
    for other in ("aligned", "jpeg_95", "resized"):
        assert cells["as_is"][other]["roc_auc"]["value"] < 0.8
    # A row is of what was trained on: to exchange rows and columns would be seen.
    assert cells["jpeg_95"]["resized"]["roc_auc"]["value"] > 0.9
    assert cells["resized"]["jpeg_95"]["roc_auc"]["value"] < 0.8
    assert cells["as_is"]["as_is"]["roc_auc"]["n"] == 72
    assert "Statistics of error levels give AUC" in said(found)


def test_command_prints_json_and_writes_files(tiny, cache, tmp_path, command) -> None:
    out = tmp_path / "audit"
    words = f"audit {tiny} --num-proc 1 --sample 8 --out {out}"
    printed = json.loads(command(words, "--json").out)
    assert printed == json.loads((out / "audit.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "facts.png", "matrix.png"]
    shown = command(words, "--sample", 0).out
    assert shown.startswith("Verdict\n- ")  # before tables that fill a screen
    assert shown.count("Verdict") == 1
    assert "bytes_per_pixel" in shown
    assert " ".join(printed["verdict"][0].split()) in " ".join(shown.split())
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "facts.png"]


def test_a_log_gets_few_lines_of_progress(tiny, tmp_path, python) -> None:
    words = ["-m", "hf_ela", "audit", tiny, "--cache-dir", tmp_path, "--sample", 4]
    done = python(words, HF_DATASETS_DISABLE_PROGRESS_BARS="0")
    assert done.returncode == 0, done.stderr
    assert 4 <= done.stderr.count("Statistics of") < 14  # begin and end of each split


def test_streamed_and_mapped_data_give_the_same(tiny, cache) -> None:
    found = [
        audit(DataOptions(str(tiny), streaming=streaming, num_proc=1), sample=5, resamples=20)
        for streaming in (False, True)
    ]
    assert found[0] == found[1]


def test_what_cannot_be_read_is_counted_named_and_in_the_verdict(cache, tmp_path, command) -> None:
    folder = write_flat(tmp_path / "data", 8)
    for i in range(12):
        (folder / f"fake/broken{i:02}.png").write_text("no image")
    words = f"audit {folder} --num-proc 1 --sample 0 --out {tmp_path}"
    shown = " ".join(command(words).out.split())
    found = json.loads((tmp_path / "audit.json").read_text())
    assert found["images"]["train"] == {"fake": 8, "real": 8}
    assert [bad["file"] for bad in found["rejected"]] == [
        f"fake/broken{i:02}.png" for i in range(12)
    ]
    assert {(bad["split"], bad["class"]) for bad in found["rejected"]} == {("train", "fake")}
    assert "Cannot be read: 12 fake fake/broken00.png: NotAnImageError: " in shown
    assert ("broken02.png" in shown, "broken03.png" in shown) == (True, False)
    assert "12 of 20 fake and 0 of 8 real images cannot be read" in shown
    assert "All of them are fake" in shown
    for i in range(2, 12):
        (folder / f"fake/broken{i:02}.png").unlink()
    few = said(audited(folder, sample=0))
    assert "2 of 10 fake and 0 of 8 real images cannot be read" in few
    assert "All of them" not in few  # by chance, as likely as not
    (folder / "real/broken.png").write_text("no image")
    both = said(audited(folder, sample=0))
    assert "2 of 10 fake and 1 of 9 real images cannot be read" in both
    assert "All of them" not in both


@pytest.mark.parametrize("streaming", [False, True])
def test_splits_are_those_of_the_dataset(tiny, cache, tmp_path, streaming) -> None:
    """Nothing is held out, and none need be called train."""
    shutil.copytree(tiny / "test", tmp_path / "held/test")
    flat = write_flat(tmp_path / "flat", 8)
    for folder, images in (
        (flat, {"train": {"fake": 8, "real": 8}}),
        (tmp_path / "held", {"test": {"fake": 6, "real": 6}}),
    ):
        assert audited(folder, sample=0, streaming=streaming)["images"] == images


def test_a_folder_that_cannot_take_the_results_is_refused_before_the_work(
    tiny, cache, tmp_path, command
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "linked").symlink_to(tiny)
    for out, rule in (
        (tmp_path / "linked/out", "outside the data"),
        (tmp_path / "file/out", "must be writable"),
    ):
        err = command(f"audit {tiny} --out {out}", status=2).err
        assert err.startswith("hf-ela: A folder for results must")  # no line about a step before it
        assert rule in err
        assert f"Received: {out}" in err
        assert not out.is_dir()


def test_command_refuses(tmp_path, command) -> None:
    assert "no such folder" in command("audit", str(tmp_path / "nowhere" / "x"), status=2).err
    command(f"audit {tmp_path} --sample -1", status=2)


def test_without_the_extra_it_says_what_to_install(tiny, monkeypatch, command) -> None:
    for name in [name for name in sys.modules if name.startswith("hf_ela.evaluation.leak_audit")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pandas", None)
    err = command(f"audit {tiny}", status=2).err
    assert err.startswith("hf-ela: An audit requires the `train` extra")
    assert '[train]"' in err


def test_the_format_gives_the_pictures_of_the_repository_away(real_folder, cache) -> None:
    found = audit(DataOptions(str(real_folder), num_proc=1), sample=0)
    assert found["images"] == {"train": {"fake": 4, "real": 4}, "test": {"fake": 2, "real": 2}}
    formats = {kind: table["values"]["format"] for kind, table in found["tables"].items()}
    assert formats == {"fake": {"WEBP": 6}, "real": {"JPEG": 6}}
    (alone,) = (row for row in found["facts"] if row["fact"] == "format")
    assert alone["roc_auc"]["value"] == 1.0


@pytest.mark.second_lane
def test_the_confounds_of_the_pool_are_found(pool, pool_csv, cache) -> None:
    found = audit(DataOptions(str(pool), groups=str(pool_csv), limit=1200), sample=0)
    assert found["classifiers"]["file_facts"]["roc_auc"]["low"] > 0.9
    values = {(row["fact"], row["value"]): row for row in found["values"]}
    quality = values["jpeg_quality", "75"]  # of wikiart
    assert quality["real"] > 1.5 * quality["fake"]
    assert values["format", "WEBP"]["real"] == 0
    assert values["mode", "RGBA"]["fake"] == 0
    assert values["size", "512 x 512"]["fake"] > 4 * values["size", "512 x 512"]["real"]
    assert found["duplicates"]["near"]["across_splits"] == 0  # the pool was made so
    assert "format WEBP" in said(found)
    assert "pixel layout RGBA" in said(found)
