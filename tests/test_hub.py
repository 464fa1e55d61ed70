"""Datasets of the Hub, read by the real clients from a Hub over loopback (hub_server).

The clients read their environment when they are imported, so they run in a process of their own:
the fixture `client` sends code to it, and gets back what the code assigns to `result`.
"""

import io
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hub_server import LocalHub

SOURCE = Path(__file__).resolve().parents[1] / "src"
CLASSES = ("fake", "real")
COMMIT = re.compile("[0-9a-f]{40}")

# Reads one JSON list of [code, variables] per line and answers each with one line.
CLIENT = """
import json, sys
from hf_ela.hub import dataset as hub
from hf_ela.errors import HfElaError

def rows_of(dataset, streaming, token=None):
    splits = hub.load_hub_rows(dataset, streaming=streaming, token=token)
    return {
        split: {
            "type": type(rows).__name__,
            "names": rows.features["label"].names,
            "rows": [
                [len(row["image"]), row["label"], hub.read_image(row["image"], token).hex()]
                for row in rows
            ],
        }
        for split, rows in splits.items()
    }

for line in sys.stdin:
    code, variables = json.loads(line)
    scope = {"hub": hub, "rows_of": rows_of, "result": None, **variables}
    try:
        exec(code, scope)
        answer = {"result": scope["result"]}
    except HfElaError as error:
        answer = {"error": [t.__name__ for t in type(error).__mro__], "message": str(error)}
    print(json.dumps(answer), flush=True)
"""

Answer = dict[str, Any]
Client = Callable[..., Answer]


def start(environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment, "PYTHONPATH": str(SOURCE)},
    )


def ask(process: subprocess.Popen[str], code: str, variables: Mapping[str, Any]) -> Answer:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([code, variables]) + "\n")
    process.stdin.flush()
    answer: Answer = json.loads(process.stdout.readline())
    return answer


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as server:
        yield server


@pytest.fixture(scope="module")
def client(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with start(hub.environment(tmp_path_factory.mktemp("hf"))) as process:
        yield lambda code, **variables: ask(process, code, variables)


def alone(environment: Mapping[str, str], code: str) -> Answer:
    """Run code in a process with its own environment."""
    with start(environment) as process:
        return ask(process, code, {})


def jpeg(*colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(file, "JPEG", quality=80)
    return file.getvalue()


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
        rows.setdefault(split, []).append([2, CLASSES.index(name), data.hex()])
    return rows


def parquet(files: Mapping[str, bytes], split: str, names: tuple[str, ...] = CLASSES) -> bytes:
    """What the Hub's bot, or push_to_hub, writes for a folder."""
    datasets = pytest.importorskip("datasets")
    chosen = {path: data for path, data in sorted(files.items()) if path.startswith(split)}
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    )
    images = [{"bytes": data, "path": Path(path).name} for path, data in chosen.items()]
    labels = [names.index(path.split("/")[1]) for path in chosen]
    rows = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
    file = io.BytesIO()
    rows.to_parquet(file)
    return file.getvalue()


def conversion(files: Mapping[str, bytes], prefix: str = "") -> dict[str, bytes]:
    return {
        f"default/{prefix}{split}/0000.parquet": parquet(files, split)
        for split in ("train", "test")
    }


def downloads(requests: list[str], suffix: str) -> list[str]:
    return [call for call in requests if "/resolve/" in call and call.endswith(f"{suffix} 200")]


READ = """
dataset = hub.resolve_dataset(repo_id, revision)
result = [vars(dataset), rows_of(dataset, streaming)]
"""


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("kind", ["folder", "parquet", "converted"])
def test_rows_arrive_undecoded_with_their_class_names(
    hub: LocalHub, client: Client, kind: str, streaming: bool
) -> None:
    repo_id, files = f"user/{kind}-{streaming}".lower(), folder()
    held = {f"data/{s}-0.parquet": parquet(files, s) for s in ("train", "test")}
    repository = hub.add_dataset(repo_id, held if kind == "parquet" else files)
    conversion_commit = repository.convert(conversion(files)) if kind == "converted" else None
    hub.requests.clear()

    pinned, splits = client(READ, repo_id=repo_id, revision=None, streaming=streaming)["result"]

    assert pinned == {
        "id": repo_id,
        "revision": repository.find("main").sha,
        "conversion": conversion_commit,
    }
    assert {split: part["rows"] for split, part in splits.items()} == expected(files)
    assert [part["names"] for part in splits.values()] == [["fake", "real"]] * 2
    assert splits["train"]["type"] == ("IterableDataset" if streaming else "Dataset")
    # A folder costs requests for every image, Parquet none.
    assert bool(downloads(hub.requests, ".jpg")) == (kind == "folder")


def test_a_streamed_folder_costs_one_request_per_image_and_a_conversion_does_not_grow(
    hub: LocalHub, client: Client
) -> None:
    cost = {}
    for images in (1, 6):
        for kind in ("folder", "converted"):
            repository = hub.add_dataset(f"user/{kind}{images}", folder(images))
            if kind == "converted":
                repository.convert(conversion(folder(images)))
            hub.requests.clear()
            client(READ, repo_id=repository.id, revision=None, streaming=True)
            cost[kind, images] = len(hub.requests)
    assert cost["folder", 6] - cost["folder", 1] == 5 * len(CLASSES) * 2
    assert cost["converted", 6] == cost["converted", 1]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_pinned_revision_gives_the_old_rows(
    hub: LocalHub, client: Client, streaming: bool
) -> None:
    old, new = folder(green=0), folder(green=200)
    repository = hub.add_dataset(f"user/pinned-{streaming}".lower(), old)
    commit = repository.find("main").sha
    repository.branch("before")
    repository.tag("v1")
    repository.commit(new)
    repository.convert(conversion(new))

    for revision in (commit, "before", "v1"):
        pinned, splits = client(
            READ, repo_id=repository.id, revision=revision, streaming=streaming
        )["result"]
        assert pinned == {"id": repository.id, "revision": commit, "conversion": None}
        assert {split: part["rows"] for split, part in splits.items()} == expected(old)
    pinned, splits = client(READ, repo_id=repository.id, revision="main", streaming=streaming)[
        "result"
    ]
    assert pinned["revision"] == repository.find("main").sha != commit
    assert {split: part["rows"] for split, part in splits.items()} == expected(new)


def test_a_dataset_that_moves_on_after_it_was_resolved_is_read_as_resolved(
    hub: LocalHub, client: Client
) -> None:
    old, new = folder(green=0), folder(green=200)
    repository = hub.add_dataset("user/moving", old)
    repository.convert(conversion(old))
    client("import builtins; builtins.kept = hub.resolve_dataset('user/moving')")
    repository.commit(new)
    repository.convert(conversion(new))

    splits = client("result = rows_of(kept, True)")["result"]

    assert {split: part["rows"] for split, part in splits.items()} == expected(old)


RESOLVE = "result = vars(hub.resolve_dataset(repo_id, revision, token))"


def test_a_conversion_is_left_alone_unless_it_says_the_same(hub: LocalHub, client: Client) -> None:
    files = folder(1)

    def converted(name: str) -> str | None:
        answer = client(RESOLVE, repo_id=f"user/{name}", revision=None, token=None)
        result: str | None = answer["result"]["conversion"]
        return result

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
    _, splits = client(READ, repo_id="user/parts", revision=None, streaming=True)["result"]
    assert {split: len(part["rows"]) for split, part in splits.items()} == {
        "extra": 2,
        "train": 4,
    }


@pytest.mark.parametrize("streaming", [True, False])
def test_a_private_dataset_needs_its_token(hub: LocalHub, client: Client, streaming: bool) -> None:
    files = folder(1)
    name = f"user/private-{streaming}".lower()
    hub.add_dataset(name, files, private=True)
    code = """
dataset = hub.resolve_dataset(repo_id, token=token)
result = rows_of(dataset, streaming, token)
"""
    for token in (None, "hf_of_somebody_else"):
        answer = client(code, repo_id=name, streaming=streaming, token=token)
        assert answer["error"][0] == "DatasetNotFoundError"
        assert "private" in answer["message"]
        assert "hf auth login" in answer["message"]
        assert "hf_of_somebody_else" not in answer["message"]

    # Seen when it was resolved, no longer when it is loaded.
    lost = "result = rows_of(hub.resolve_dataset(repo_id, token=token), streaming, None)"
    answer = client(lost, repo_id=name, streaming=streaming, token=hub.token)
    assert answer["error"][0] == "DatasetNotFoundError"
    assert hub.token not in answer["message"]

    splits = client(code, repo_id=name, streaming=streaming, token=hub.token)["result"]
    assert {split: part["rows"] for split, part in splits.items()} == expected(files)


def test_the_token_of_the_environment_is_used(hub: LocalHub, tmp_path: Path) -> None:
    repository = hub.add_dataset("user/environment", folder(1), private=True)
    environment = hub.environment(tmp_path)
    code = "result = vars(hub.resolve_dataset('user/environment'))"
    assert alone(environment, code)["error"][0] == "DatasetNotFoundError"
    answer = alone({**environment, "HF_TOKEN": hub.token}, code)
    assert answer["result"]["revision"] == repository.find("main").sha


@pytest.mark.parametrize("token", ["hf_secret\nline", "hf_secret é", "hf secret"])
def test_a_malformed_token_is_refused_and_not_shown(
    hub: LocalHub, client: Client, token: str
) -> None:
    answer = client(RESOLVE, repo_id="user/any", revision=None, token=token)
    assert answer["error"][0] == "HfElaError"
    assert "printable ASCII" in answer["message"]
    assert "secret" not in answer["message"]


def test_a_dataset_that_is_not_there(hub: LocalHub, client: Client) -> None:
    for token in (None, hub.token):
        answer = client(RESOLVE, repo_id="user/absent", revision=None, token=token)
        assert answer["error"][0] == "DatasetNotFoundError"
        assert "'user/absent'" in answer["message"]
        assert "does not exist, or is private" in answer["message"]


def test_a_revision_that_is_not_there_names_those_that_are(hub: LocalHub, client: Client) -> None:
    repository = hub.add_dataset("user/revisions", folder(1))
    repository.branch("cleaned")
    repository.tag("v1.0")
    for revision in ("v2.0", "0" * 40):
        answer = client(RESOLVE, repo_id=repository.id, revision=revision, token=None)
        assert answer["error"][0] == "DatasetNotFoundError"
        assert f"'{revision}'" in answer["message"]
        assert "Branches: main, cleaned; tags: v1.0." in answer["message"]


def test_a_gated_dataset_says_where_to_ask(hub: LocalHub, client: Client) -> None:
    hub.add_dataset("user/gated", folder(1), gated=True)
    for token in (None, hub.token):
        answer = client(RESOLVE, repo_id="user/gated", revision=None, token=token)
        assert answer["error"][0] == "DatasetNotFoundError"
        assert f"{hub.endpoint}/datasets/user/gated" in answer["message"]


@pytest.mark.parametrize("repo_id", ["", "name", "a/b/c", "user/na me", "user/a..b", "/name"])
def test_a_malformed_id_says_the_rule(hub: LocalHub, client: Client, repo_id: str) -> None:
    answer = client(RESOLVE, repo_id=repo_id, revision=None, token=None)
    assert answer["error"][0] == "DatasetNotFoundError"
    assert "`user/name`" in answer["message"]
    assert f"Received: {repo_id!r}" in answer["message"]


def test_no_answer_from_the_hub(hub: LocalHub, tmp_path: Path) -> None:
    resolve = "hub.resolve_dataset('user/any')"
    load = "hub.load_hub_rows(hub.HubDataset('user/any', '0' * 40, None), streaming=True)"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = hub.environment(tmp_path) | {"HF_ENDPOINT": refused}
        answers = [
            alone(environment, resolve),
            alone(environment | {"HF_ENDPOINT": "http://hub.invalid"}, resolve),
        ]
        offline = [alone(environment | {"HF_HUB_OFFLINE": "1"}, code) for code in (resolve, load)]
        silent.listen()
        slow = alone(environment | {"HF_HUB_DOWNLOAD_TIMEOUT": "1"}, resolve)
    for answer in (*answers, *offline, slow):
        assert answer["error"][0] == "HubUnreachableError"
        assert "--data" in answer["message"]
    for answer in answers:
        assert "HF_ENDPOINT" in answer["message"]
    assert "HF_HUB_OFFLINE" in offline[0]["message"]
    assert "Timeout" in slow["message"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, "DataError"),
        (401, "DatasetNotFoundError"),
        (403, "DatasetNotFoundError"),
        (429, "HubUnreachableError"),
        (500, "HubUnreachableError"),
        (503, "HubUnreachableError"),
    ],
)
def test_a_status_that_is_an_error(hub: LocalHub, client: Client, status: int, error: str) -> None:
    hub.fault("*", "/api/datasets/user/fault", status=status)
    answer = client(RESOLVE, repo_id="user/fault", revision=None, token=None)
    hub.clear_faults()
    assert answer["error"][0] == error
    assert "user/fault" in answer["message"]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    "files", [{"README.md": b"No data."}, {"data/train-0.parquet": b"not Parquet"}]
)
def test_a_dataset_without_rows_is_a_typed_error(
    hub: LocalHub, client: Client, files: dict[str, bytes], streaming: bool
) -> None:
    hub.add_dataset("user/empty", files)
    answer = client(READ, repo_id="user/empty", revision=None, streaming=streaming)
    assert answer["error"][0] == "DataError"
    assert "user/empty" in answer["message"]


def test_shards_that_do_not_fit_together_are_a_typed_error(hub: LocalHub, client: Client) -> None:
    datasets = pytest.importorskip("datasets")
    other = io.BytesIO()
    datasets.Dataset.from_dict({"caption": ["a tree"]}).to_parquet(other)
    shards = {"data/train-0.parquet": parquet(folder(1), "train")}
    hub.add_dataset("user/mixed", {**shards, "data/train-1.parquet": other.getvalue()})
    answer = client(READ, repo_id="user/mixed", revision=None, streaming=False)
    assert answer["error"][0] == "DataError"
    assert "user/mixed" in answer["message"]


def test_an_image_and_a_stream_that_fail_half_way_are_typed(hub: LocalHub, client: Client) -> None:
    repository = hub.add_dataset("user/halfway", folder(1))
    code = """
import builtins
dataset = hub.resolve_dataset(repo_id)
builtins.rows = hub.load_hub_rows(dataset, streaming=True)["train"]
result = [row["image"] for row in rows]
"""
    images = client(code, repo_id=repository.id)["result"]
    assert [image["bytes"] for image in images] == [None, None]
    repository.private = True
    answer = client("hub.read_image(image)", image=images[0])
    assert answer["error"][0] == "DatasetNotFoundError"
    assert repository.id in answer["message"]

    repository = hub.add_dataset("user/shards", {"data/train-0.parquet": parquet(folder(1), "t")})
    client(code.replace("result = ", "#"), repo_id=repository.id)
    repository.private = True
    answer = client("with hub.dataset_errors('user/shards'): list(rows)")
    assert answer["error"][0] == "DatasetNotFoundError"


def test_a_local_copy_is_not_taken_for_the_hub(
    hub: LocalHub, client: Client, tmp_path: Path
) -> None:
    repository = hub.add_dataset("user/local", folder(1))
    client(READ, repo_id=repository.id, revision=None, streaming=False)
    repository.commit(folder(1, green=200))
    hub.fault("*", "local/resolve/", status=400)
    cached = client(READ, repo_id=repository.id, revision=None, streaming=False)
    hub.clear_faults()

    for path, data in folder(1).items():
        file = tmp_path / repository.id / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    client("import os; os.chdir(folder)", folder=str(tmp_path))
    beside = client(READ, repo_id=repository.id, revision=None, streaming=True)
    client("import os; os.chdir('/')")

    for answer in (cached, beside):
        assert answer["error"][0] == "HubUnreachableError"
        assert "local folder of that name" in answer["message"]
        assert "local cache" in answer["message"]


def test_images_are_read_in_worker_processes(hub: LocalHub, client: Client) -> None:
    files = folder(2)
    repository = hub.add_dataset("user/workers", files, private=True)
    code = """
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
    result = [data.hex() for data in pool.map(partial(hub.read_image, token=token), images)]
"""
    root = f"hf://datasets/{repository.id}@{repository.find('main').sha}"
    images = [{"bytes": None, "path": f"{root}/{path}"} for path in sorted(files)]
    hub.requests.clear()

    answer = client(code, token=hub.token, images=images)

    assert answer["result"] == [data.hex() for _, data in sorted(files.items())]
    assert len(downloads(hub.requests, ".jpg")) == len(images)
    # Each of two processes looks at the repository and its four folders once.
    assert len(hub.requests) <= len(images) + 2 * 5


def test_a_local_image_is_read_or_refused(tmp_path: Path) -> None:
    from hf_ela.errors import ImageNotReadableError
    from hf_ela.hub.datasets import read_image

    file = tmp_path / "é.jpg"
    file.write_bytes(jpeg(1, 2, 3))
    assert read_image({"bytes": None, "path": str(file)}) == file.read_bytes()
    assert read_image({"bytes": b"in memory", "path": str(file)}) == b"in memory"
    for path in (tmp_path / "absent.jpg", tmp_path):
        with pytest.raises(ImageNotReadableError, match=re.escape(str(path))):
            read_image({"bytes": None, "path": str(path)})


@pytest.mark.network
def test_the_live_dataset(tmp_path: Path) -> None:
    with LocalHub() as hub:
        environment = hub.environment(tmp_path)
    del environment["HF_ENDPOINT"]
    code = """
from itertools import islice
splits = hub.load_hub_rows(dataset, streaming=True)
rows = splits["train"]
read = [len(hub.read_image(row["image"])) for row in islice(rows, 3)]
result = [vars(dataset), sorted(splits), rows.features["label"].names, read]
"""
    with start(environment) as process:
        pinned, splits, names, sizes = ask(process, code, {})["result"]
    assert COMMIT.fullmatch(pinned["revision"])
    assert COMMIT.fullmatch(pinned["conversion"])
    assert splits == ["test", "train"]
    assert names == ["fake", "real"]
    assert min(sizes) > 1000
