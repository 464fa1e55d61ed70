"""Groups and near-duplicates, and splits that respect them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from conftest import picture
from hf_ela.errors import DataError
from hf_ela.groups import GroupTable, clusters, grouped_split
from hf_ela.rows import perceptual_hash

NONE = GroupTable({}, {})


def table(tmp_path, text: str) -> GroupTable:
    (tmp_path / "groups.csv").write_text(text, "utf-8")
    return GroupTable.read(tmp_path / "groups.csv")


def test_table_finds_by_path_then_by_unambiguous_name(tmp_path) -> None:
    groups = table(
        tmp_path, "file_name,group,source\ntrain/a.jpg,g1,s1\ntest/a.jpg,g2,\ntrain/ü b.jpg,g3,s3\n"
    )
    assert groups.get("train/a.jpg", "group") == "g1"
    assert groups.get("test/a.jpg", "group") == "g2"
    assert groups.get("test/a.jpg", "source") is None
    assert groups.get("a.jpg", "group") is None
    assert groups.get("ü b.jpg", "source") == "s3"
    assert groups.get("elsewhere/ü b.jpg", "source") is None  # another file of the same name
    assert groups.get("train/a.jpg", "generator") is None


def test_bare_names_in_the_table_serve_files_in_folders(tmp_path) -> None:
    groups = table(tmp_path, "group,file_name\ng1,a.jpg\ng2\n")
    assert groups.get("train/real/a.jpg", "group") == "g1"


def test_table_refusals(tmp_path) -> None:
    with pytest.raises(DataError, match=r"two for a\.png"):
        table(tmp_path, "file_name,group\na.png,g1\na.png,g2\n")
    with pytest.raises(DataError, match="file_name and group"):
        table(tmp_path, "name,group\na,b\n")
    with pytest.raises(DataError, match="cannot be read"):
        GroupTable.read(tmp_path / "missing.csv")


def test_near_duplicates_are_found_and_others_are_not() -> None:
    def painting(seed: int) -> Image.Image:
        small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        return Image.fromarray(small).resize((240, 200), Image.Resampling.BICUBIC)

    original, other = painting(1), painting(2)
    copies = [original.resize((120, 100)), original.filter(ImageFilter.GaussianBlur(1))]
    hashes = [perceptual_hash(image) for image in (original, *copies, other)]
    members = clusters(list("abcd"), hashes, NONE)
    assert members[0] == members[1] == members[2] != members[3]


def test_a_group_and_its_near_duplicates_are_one_cluster(tmp_path) -> None:
    groups = table(tmp_path, "file_name,group\na,g\nb,g\n")
    members = clusters(list("abcd"), [0, -1, 1, 0x0F0F0F0F], groups)
    assert members[0] == members[1]  # one group, far apart
    assert members[0] == members[2]  # one bit from a
    assert members[3] != members[0]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=24, max_size=60),
    fraction=st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7]),
    seed=st.integers(0, 5),
)
def test_no_cluster_is_on_both_sides(sizes, fraction, seed) -> None:
    members = np.repeat(np.arange(len(sizes)), sizes)
    labels = members % 2
    kept, held = grouped_split(labels, members, fraction, seed)
    assert not set(members[kept]) & set(members[held])
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert {0, 1} == set(labels[held].tolist()) == set(labels[kept].tolist())
    assert abs(len(held) / len(labels) - fraction) < 0.15
    again = grouped_split(labels, members, fraction, seed)
    assert np.array_equal(again[1], held)


def test_too_few_groups_is_said() -> None:
    with pytest.raises(DataError, match="at least 5 groups of each class"):
        grouped_split(np.array([0, 1] * 10), np.array([0, 1] * 10), 0.2, 0)


def test_hash_of_fixture_pictures_differs() -> None:
    hashes = {perceptual_hash(picture(seed, fake=False)) for seed in range(20)}
    assert len(hashes) == 20
