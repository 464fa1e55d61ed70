"""Datasets of the Hub, read by the real clients from a Hub over loopback (hub_server)."""

import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import datasets
import pytest
from PIL import Image

from bad_files import encode
from conftest import LIVE, parquet
from hf_ela.errors import (
    DataError,
    DatasetNotFoundError,
    HfElaError,
    HubUnreachableError,
    ImageNotReadableError,
)
from hf_ela.hub import datasets as hub_datasets
from hf_ela.hub.datasets import load_hub_rows, read_image, resolve_dataset

CLASSES = ("fake", "real")

pytestmark = pytest.mark.usefixtures("cache")


def rows_of(dataset: hub_datasets.HubDataset, streaming: bool, token: str | None = None) -> dict:
    """Split -> its rows, as [parts of an undecoded image, label, bytes], and what holds them."""
    return {
        split: {
            "type": type(rows).__name__,
            "names": rows.features["label"].names,
            "rows": [
                [len(row["image"]), row["label"], read_image(row["image"], token)] for row in rows
            ],
        }
        for split, rows in load_hub_rows(dataset, streaming=streaming, token=token).items()
    }


def read(repo_id: str, revision: str | None = None, streaming: bool = True) -> tuple[Any, dict]:
    dataset = resolve_dataset(repo_id, revision)
    return dataset, rows_of(dataset, streaming)


def jpeg(*colour: int) -> bytes:
    return encode(Image.new("RGB", (24, 16), colour), "JPEG", quality=80)


def folder(images: int = 3, green: int = 0) -> dict[str, bytes]:
    return {
        f"{split}/{name}/{i}.jpg": jpeg(20 * i, green, 100 * CLASSES.index(name) + len(split))
        for split in ("train", "test")
        for name in CLASSES
        for i in range(images)
    }


def expected(files: Mapping[str, bytes]) -> dict[str, list[list[object]]]:
    """Split -> [parts of an undecoded image, label, bytes], in the order of `datasets`."""
    rows: dict[str, list[list[object]]] = {}
    for path, data in sorted(files.items()):
        split, name, _ = path.split("/")
        rows.setdefault(split, []).append([2, CLASSES.index(name), data])
    return rows


def conversion(files: Mapping[str, bytes], prefix: str = "") -> dict[str, bytes]:
    return {
        f"default/{prefix}{split}/0000.parquet": parquet(files, split)
        for split in ("train", "test")
    }


def downloads(requests: list[str], suffix: str) -> list[str]:
    return [call for call in requests if "/resolve/" in call and call.endswith(f"{suffix} 200")]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("kind", ["folder", "parquet", "converted"])
def test_rows_arrive_undecoded_with_their_class_names(hub, kind, streaming) -> None:
    repo_id, files = f"user/{kind}-{streaming}".lower(), folder()
    held = {f"data/{s}-0.parquet": parquet(files, s) for s in ("train", "test")}
    repository = hub.add_dataset(repo_id, held if kind == "parquet" else files)
    commit = repository.convert(conversion(files)) if kind == "converted" else None

    pinned, splits = read(repo_id, streaming=streaming)

    assert vars(pinned) == {
        "id": repo_id,
        "revision": repository.find("main").sha,
        "conversion": commit,
    }
    assert {split: part["rows"] for split, part in splits.items()} == expected(files)
    assert [part["names"] for part in splits.values()] == [["fake", "real"]] * 2
    assert splits["train"]["type"] == ("IterableDataset" if streaming else "Dataset")
    # A folder costs requests for every image, Parquet none.
    assert bool(downloads(hub.requests, ".jpg")) == (kind == "folder")


def test_a_streamed_folder_costs_one_request_per_image_and_a_conversion_does_not_grow(hub) -> None:
    cost = {}
    for images in (1, 6):
        for kind in ("folder", "converted"):
            repository = hub.add_dataset(f"user/{kind}{images}", folder(images))
            if kind == "converted":
                repository.convert(conversion(folder(images)))
            hub.requests.clear()
            read(repository.id)
            cost[kind, images] = len(hub.requests)
    assert cost["folder", 6] - cost["folder", 1] == 5 * len(CLASSES) * 2
    assert cost["converted", 6] == cost["converted", 1]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_pinned_revision_gives_the_old_rows(hub, streaming) -> None:
    old, new = folder(green=0), folder(green=200)
    repository = hub.add_dataset(f"user/pinned-{streaming}".lower(), old)
    commit = repository.find("main").sha
    repository.convert(conversion(old))
    before = resolve_dataset(repository.id)
    repository.branch("before")
    repository.tag("v1")
    repository.commit(new)

    for revision in (commit, "before", "v1"):
        pinned, splits = read(repository.id, revision, streaming)
        assert (pinned.revision, pinned.conversion) == (commit, None)
        assert {split: part["rows"] for split, part in splits.items()} == expected(old)
    pinned, splits = read(repository.id, "main", streaming)
    assert pinned.revision == repository.find("main").sha != commit
    assert {split: part["rows"] for split, part in splits.items()} == expected(new)
    # What was resolved before the dataset moved on is read as resolved.
    repository.convert(conversion(new))
    splits = rows_of(before, streaming)
    assert {split: part["rows"] for split, part in splits.items()} == expected(old)


def test_a_conversion_is_left_alone_unless_it_says_the_same(hub) -> None:
    files = folder(1)

    def converted(name: str) -> str | None:
        return resolve_dataset(f"user/{name}").conversion

    held = {"data/train-0.parquet": parquet(files, "train")}
    hub.add_dataset("user/parquet", held).convert(conversion(files))
    assert converted("parquet") is None

    hub.add_dataset("user/partial", files).convert(conversion(files, "partial-"))
    assert converted("partial") is None

    two = {f"{name}/train/0000.parquet": parquet(files, "train") for name in ("a", "b")}
    hub.add_dataset("user/configurations", files).convert(two)
    assert converted("configurations") is None

    stale = hub.add_dataset("user/stale", files)
    stale.convert(conversion(files))
    stale.commit({"train/fake/late.jpg": jpeg(1, 2, 3)})
    assert converted("stale") is None
    commit = stale.convert(conversion(dict(stale.find("main").files)))
    assert converted("stale") == commit
    stale.commit({"README.md": b"A card is no data."})
    assert converted("stale") == commit

    shards = {f"default/train-part{i}/0000.parquet": parquet(files, "train") for i in range(2)}
    commit = hub.add_dataset("user/parts", files).convert(
        shards | {"default/extra/0000.parquet": parquet(files, "test")}
    )
    assert converted("parts") == commit
    _, splits = read("user/parts")
    assert {split: len(part["rows"]) for split, part in splits.items()} == {"extra": 2, "train": 4}


@pytest.mark.parametrize("streaming", [True, False])
def test_a_private_dataset_needs_its_token(hub, monkeypatch, streaming) -> None:
    files, name = folder(1), f"user/private-{streaming}".lower()
    hub.add_dataset(name, files, private=True)
    for token, said in ((None, "private"), ("hf_of_somebody_else", "does not accept your token")):
        with pytest.raises(DatasetNotFoundError, match=said) as caught:
            resolve_dataset(name, token=token)
        assert "hf auth login" in str(caught.value)
        assert "hf_of_somebody_else" not in str(caught.value)
    # Seen when it was resolved, no longer when it is loaded.
    dataset = resolve_dataset(name, token=hub.token)
    with pytest.raises(DatasetNotFoundError) as caught:
        rows_of(dataset, streaming)
    assert hub.token not in str(caught.value)
    splits = rows_of(dataset, streaming, hub.token)
    assert {split: part["rows"] for split, part in splits.items()} == expected(files)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert resolve_dataset(name) == dataset


@pytest.mark.parametrize("token", ["hf_secret\nline", "hf_secret é", "hf secret"])
def test_a_malformed_token_is_refused_and_not_shown(hub, token) -> None:
    with pytest.raises(HfElaError, match="printable ASCII") as caught:
        resolve_dataset("user/any", token=token)
    assert "secret" not in str(caught.value)


def test_what_is_not_there_says_so(hub) -> None:
    for token in (None, hub.token):
        with pytest.raises(DatasetNotFoundError, match=r"'user/absent' does not exist .* private"):
            resolve_dataset("user/absent", token=token)
    repository = hub.add_dataset("user/revisions", folder(1))
    repository.branch("cleaned")
    repository.tag("v1.0")
    for revision in ("v2.0", "0" * 40):
        with pytest.raises(DatasetNotFoundError) as caught:
            resolve_dataset(repository.id, revision)
        assert f"'{revision}'" in str(caught.value)
        assert "Branches: main, cleaned; tags: v1.0." in str(caught.value)
    hub.add_dataset("user/gated", folder(1), gated=True)
    for token in (None, hub.token):
        with pytest.raises(DatasetNotFoundError, match=f"{hub.endpoint}/datasets/user/gated"):
            resolve_dataset("user/gated", token=token)


@pytest.mark.parametrize("repo_id", ["", "name", "a/b/c", "user/na me", "user/a..b", "/name"])
def test_a_malformed_id_says_the_rule(hub, repo_id) -> None:
    with pytest.raises(DatasetNotFoundError, match="named user/name") as caught:
        resolve_dataset(repo_id)
    assert f"Received: {repo_id!r}" in str(caught.value)


ALONE = """
import sys
from hf_ela.errors import HubUnreachableError
from hf_ela.hub.datasets import HubDataset, load_hub_rows, resolve_dataset
calls = (
    lambda: resolve_dataset("user/any"),
    lambda: load_hub_rows(HubDataset("user/any", "0" * 40, None), streaming=True),
)
for call in calls[: int(sys.argv[1])]:
    try:
        call()
    except HubUnreachableError as error:
        print(error)
"""


def test_no_answer_from_the_hub(python) -> None:
    def errors(calls: int, **environment: str) -> list[str]:
        done = python(["-c", ALONE, calls], HF_HUB_DOWNLOAD_TIMEOUT="1", **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        refused = errors(1, HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
    offline = errors(2, HF_HUB_OFFLINE="1")
    assert "could not be reached to read 'user/any'" in refused[0]
    assert "or pass a local folder" in refused[0]
    assert "HF_ENDPOINT" in refused[0]
    assert "HF_HUB_OFFLINE" in offline[0]
    assert len(offline) == 2


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"status": 400}, DataError),
        ({"status": 401}, DatasetNotFoundError),
        ({"status": 403}, DatasetNotFoundError),
        ({"status": 429, "retry_after": 0}, HubUnreachableError),
        ({"status": 500}, HubUnreachableError),
        ({"slow": 3}, HubUnreachableError),
    ],
    ids=str,
)
def test_a_hub_that_refuses_or_is_slow(hub, monkeypatch, how, error) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
    hub.fault("*", "/api/datasets/user/fault", **how)
    with pytest.raises(error, match="user/fault"):
        resolve_dataset("user/fault")


@pytest.mark.parametrize(
    ("kind", "streaming"),
    [("no data", True), ("no data", False), ("no parquet", True), ("other columns", False)],
)
def test_a_dataset_without_rows_is_a_typed_error(hub, kind, streaming) -> None:
    other = io.BytesIO()
    datasets.Dataset.from_dict({"caption": ["a tree"]}).to_parquet(other)
    mixed = {"data/train-0.parquet": parquet(folder(1), "train")}
    files = {
        "no data": {"README.md": b"No data."},
        "no parquet": {"data/train-0.parquet": b"not Parquet"},
        "other columns": {**mixed, "data/train-1.parquet": other.getvalue()},
    }[kind]
    name = f"user/empty-{kind.replace(' ', '-')}-{streaming}".lower()
    hub.add_dataset(name, files)
    with pytest.raises(DataError, match=name):
        read(name, streaming=streaming)


def test_an_image_and_a_stream_that_fail_half_way_are_typed(hub) -> None:
    repository = hub.add_dataset("user/halfway", folder(1))
    rows = load_hub_rows(resolve_dataset(repository.id), streaming=True)["train"]
    images = [row["image"] for row in rows]
    assert [image["bytes"] for image in images] == [None, None]
    repository.private = True
    with pytest.raises(DatasetNotFoundError, match=repository.id):
        read_image(images[0])

    repository = hub.add_dataset("user/shards", {"data/train-0.parquet": parquet(folder(1), "t")})
    rows = load_hub_rows(resolve_dataset(repository.id), streaming=True)["train"]
    repository.private = True
    with pytest.raises(DatasetNotFoundError), hub_datasets.dataset_errors("user/shards"):
        list(rows)


def test_a_local_copy_is_not_taken_for_the_hub(hub, tmp_path, monkeypatch) -> None:
    repository = hub.add_dataset("user/local", folder(1))
    read(repository.id, streaming=False)
    repository.commit(folder(1, green=200))
    hub.fault("*", "local/resolve/", status=400)
    with pytest.raises(HubUnreachableError, match=r"local folder of that name .* from its cache"):
        read(repository.id, streaming=False)
    hub.clear_faults()

    for path, data in folder(1).items():
        file = tmp_path / repository.id / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubUnreachableError, match="local folder of that name"):
        read(repository.id)


WORKERS = """
import json, sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from hf_ela.hub.datasets import read_image

token, *paths = sys.argv[1:]
images = [{"bytes": None, "path": path} for path in paths]
with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
    found = pool.map(partial(read_image, token=token), images)
    print(json.dumps([data.hex() for data in found]))
"""


def test_images_are_read_in_worker_processes(hub, python) -> None:
    files = folder(2)
    repository = hub.add_dataset("user/workers", files, private=True)
    root = f"hf://datasets/{repository.id}@{repository.find('main').sha}"
    paths = [f"{root}/{path}" for path in sorted(files)]
    done = python(["-c", WORKERS, hub.token, *paths])
    assert json.loads(done.stdout) == [data.hex() for _, data in sorted(files.items())]
    assert len(downloads(hub.requests, ".jpg")) == len(paths)
    # Each of two processes looks at the repository and its four folders once.
    assert len(hub.requests) <= len(paths) + 2 * 5


def test_a_local_image_is_read_or_refused(tmp_path) -> None:
    file = tmp_path / "é.jpg"
    file.write_bytes(jpeg(1, 2, 3))
    assert read_image({"bytes": None, "path": str(file)}) == file.read_bytes()
    assert read_image({"bytes": b"in memory", "path": str(file)}) == b"in memory"
    for path in (tmp_path / "absent.jpg", tmp_path):
        with pytest.raises(ImageNotReadableError, match=re.escape(str(path))):
            read_image({"bytes": None, "path": str(path)})


LIVE_DATASET = """
import json
from itertools import islice
from hf_ela.hub.datasets import DEFAULT_DATASET, load_hub_rows, read_image, resolve_dataset
dataset = resolve_dataset(DEFAULT_DATASET)
splits = load_hub_rows(dataset, streaming=True)
rows = splits["train"]
read = [len(read_image(row["image"])) for row in islice(rows, 3)]
print(json.dumps([vars(dataset), sorted(splits), rows.features["label"].names, read]))
"""


@pytest.mark.network
def test_the_live_dataset(tmp_path) -> None:
    live = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    words = [sys.executable, "-W", "ignore", "-c", LIVE_DATASET]
    environment = live | LIVE | {"HF_HOME": str(tmp_path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    pinned, splits, names, sizes = json.loads(done.stdout)
    assert re.fullmatch("[0-9a-f]{40}", pinned["revision"])
    assert re.fullmatch("[0-9a-f]{40}", pinned["conversion"])
    assert splits == ["test", "train"]
    assert names == ["fake", "real"]
    assert min(sizes) > 1000
