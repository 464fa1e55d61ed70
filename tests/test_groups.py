"""Groups and near-duplicates, and splits that respect them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from bad_files import encode
from conftest import REPOSITORY
from hf_ela.data.duplicates import near_duplicates, perceptual_hash
from hf_ela.data.groups import GroupTable, clusters, grouped_split, split_table
from hf_ela.errors import DataError
from hf_ela.images.loading import load_image

NONE = GroupTable({}, {})


def facts(*hashes: int) -> list[dict]:
    """Facts of files a, b, c, ... with these hashes, no two the same."""
    names = [chr(97 + i) for i in range(len(hashes))]
    return [
        {"file_name": n, "key": n, "perceptual_hash": h} for n, h in zip(names, hashes, strict=True)
    ]


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


def test_the_sources_of_images_are_counted_with_their_licences(tmp_path) -> None:
    groups = table(
        tmp_path,
        "file_name,group,source,licence\na.jpg,1,art,CC0\nb.jpg,2,art,CC0\nc.jpg,3,game,\n",
    )
    assert groups.sources(["a.jpg", "b.jpg", "c.jpg", "unlisted.jpg"]) == [
        {"source": "art", "n": 2, "licence": "CC0"},
        {"source": "game", "n": 1, "licence": None},
    ]
    assert NONE.sources(["a.jpg"]) == []


def test_bare_names_in_the_table_serve_files_in_folders(tmp_path) -> None:
    groups = table(tmp_path, "group,file_name\ng1,a.jpg\ng2\n")
    assert groups.get("train/real/a.jpg", "group") == "g1"


def test_table_refusals(tmp_path) -> None:
    with pytest.raises(DataError, match=r"two different rows for a\.png"):
        table(tmp_path, "file_name,group\na.png,g1\na.png,g2\n")
    with pytest.raises(DataError, match="file_name and group"):
        table(tmp_path, "name,group\na,b\n")
    with pytest.raises(DataError, match="does not exist"):
        GroupTable.read(tmp_path / "missing.csv")


def test_near_duplicates_are_found_and_others_are_not() -> None:
    def painting(seed: int) -> Image.Image:
        small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        return Image.fromarray(small).resize((240, 200), Image.Resampling.BICUBIC)

    original, other = painting(1), painting(2)
    copies = [original.resize((120, 100)), original.filter(ImageFilter.GaussianBlur(1))]
    hashes = [perceptual_hash(image) for image in (original, *copies, other)]
    members = clusters(facts(*hashes), NONE)
    assert members[0] == members[1] == members[2] != members[3]


def plain() -> list[Image.Image]:
    """Flat pictures, even gradients, and pages with a little ink."""
    dark = Image.linear_gradient("L")
    pages = [Image.new("L", (256, 256), 255) for _ in range(12)]
    for i, page in enumerate(pages):
        draw = ImageDraw.Draw(page)
        for dot in range(1 + i // 4):
            x, y = 20 + 50 * (i % 4), 20 + 90 * dot
            draw.ellipse((x, y, x + 9, y + 9), fill=0)
    flat = [Image.new("L", (256, 256), level) for level in (0, 128, 255)]
    return [*flat, *(dark.rotate(angle) for angle in (0, 90, 180, 270)), *pages]


def test_of_plain_pictures_only_the_same_file_is_a_copy() -> None:
    found = facts(*map(perceptual_hash, plain()))
    assert len(set(clusters(found, NONE))) == len(found)
    assert not near_duplicates(found[::2], found[1::2]).any()
    again = {**found[2], "file_name": "again"}
    members = clusters([*found, again], NONE)
    assert np.flatnonzero(members == members[-1]).tolist() == [2, len(found)]
    assert near_duplicates(found, [again]).nonzero()[0].tolist() == [2]


def test_a_hash_tells_something_from_eight_bits_on() -> None:
    few, more, most = 0x7F, 0xFF, -1 ^ 0x7F
    for value, told in ((few, False), (more, True), (most, False), (-1 ^ more, True)):
        assert near_duplicates(facts(value), [{**facts(value)[0], "key": "z"}])[0] == told


def hashes_with_copies(seed: int, n: int) -> list[int]:
    """Some hashes over and over, now and then with a bit or two flipped; from 10 to 54 bits set."""
    rng = np.random.default_rng(seed)
    originals = rng.integers(0, 2**63, size=max(1, n // 3), dtype=np.uint64)
    drawn = originals[rng.integers(len(originals), size=n)]
    for _ in range(2):
        flipped = np.uint64(1) << rng.integers(64, size=n, dtype=np.uint64)
        drawn ^= np.where(rng.random(n) < 0.4, flipped, np.uint64(0))
    bits = np.bitwise_count(drawn)
    return drawn[(bits >= 10) & (bits <= 54)].view(np.int64).tolist()


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), n=st.sampled_from([1, 30, 255, 257, 600]))
def test_clusters_are_chains_of_pairs_that_are_near(seed, n) -> None:
    hashes = hashes_with_copies(seed, n)
    rows = [
        {"file_name": str(i), "key": str(i), "perceptual_hash": h} for i, h in enumerate(hashes)
    ]
    expected = list(range(len(hashes)))  # each image joins the smallest number that it reaches
    for i, one in enumerate(hashes):
        for j in range(i):
            if ((one ^ hashes[j]) & (2**64 - 1)).bit_count() <= 3 and expected[i] != expected[j]:
                low, high = sorted((expected[i], expected[j]))
                expected = [low if number == high else number for number in expected]
    found = clusters(rows, NONE) if rows else np.array([])
    assert len(set(found)) == len(set(expected)) == len(set(zip(found, expected, strict=True)))


def test_a_group_and_its_near_duplicates_are_one_cluster(tmp_path) -> None:
    groups = table(tmp_path, "file_name,group\na,g\nb,g\n")
    far, near = 0x0F0F0F0F, 0x0F0F0F0E
    members = clusters(facts(far, -1 ^ far, near, 0x33333333), groups)
    assert members[0] == members[1]  # one group, far apart
    assert members[0] == members[2]  # one bit from a
    assert members[3] != members[0]


@settings(max_examples=40)
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


@pytest.mark.parametrize(
    "where", ["repository", pytest.param("pool", marks=pytest.mark.second_lane)]
)
def test_copies_of_real_pictures_are_found_and_other_pictures_are_not(where, request) -> None:
    """Half as large, saved as JPEG 75: few hashes of art are too poor to find a copy by."""
    if where == "pool":
        folder = request.getfixturevalue("pool")
        paths = sorted(path for path in folder.rglob("*.*") if path.is_file())[::30]
    else:
        paths = sorted((REPOSITORY / "tests" / "data").glob("*-*.*"))
        assert len(paths) == 12
    pictures = [load_image(path).pixels for path in paths]
    copies = [
        load_image(encode(one.resize((one.width // 2, one.height // 2)), "JPEG", quality=75))
        for one in pictures
    ]
    found = clusters(
        [
            {"file_name": f"{n}{kind}", "key": f"{n}{kind}", "perceptual_hash": perceptual_hash(p)}
            for kind, images in (("a", pictures), ("b", [copy.pixels for copy in copies]))
            for n, p in enumerate(images)
        ],
        NONE,
    )
    originals, small = np.split(found, 2)
    assert np.mean(originals == small) > 0.95
    assert len(set(originals)) == len(pictures)


def test_the_table_for_others_numbers_groups_and_names_nothing(tmp_path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(
        "file_name,group\ntrain/b.jpg,Jane Doe\ntest/a.jpg,Jane Doe\ntrain/d.jpg,=1+1\n"
    )
    images = {
        "train": [{"file_name": f"train/{name}.jpg", "key": name * 64} for name in "bcd"],
        "test": [{"file_name": "test/a.jpg", "key": "a" * 64}],
    }
    table = split_table(GroupTable.read(path), images).splitlines()
    assert table == [
        "sha256,group,split",
        f"{'a' * 64},1,test",
        f"{'b' * 64},1,train",
        f"{'c' * 64},,train",
        f"{'d' * 64},2,train",
    ]
