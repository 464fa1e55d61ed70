"""Trainings on a dataset of the Hub: the real clients against a Hub over loopback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pytest

from conftest import REPOSITORY, TINY
from hub_server import LocalHub, Repository

ID = "somebody/art"


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as server:
        yield server


@pytest.fixture(scope="module")
def files(tiny) -> dict[str, bytes]:
    return {p.relative_to(tiny).as_posix(): p.read_bytes() for p in sorted(tiny.rglob("*.*g"))}


@pytest.fixture(scope="module")
def parquet(tiny, tmp_path_factory) -> dict[str, bytes]:
    cache = str(tmp_path_factory.mktemp("cache"))
    rows = datasets.load_dataset("imagefolder", data_dir=str(tiny), cache_dir=cache)
    found = {}
    for split, table in rows.items():
        undecoded = table.cast_column("image", datasets.Image(decode=False))
        images = [{"bytes": Path(i["path"]).read_bytes(), "path": None} for i in undecoded["image"]]
        columns = {"image": images, "label": list(undecoded["label"])}
        file = BytesIO()
        datasets.Dataset.from_dict(columns, features=table.features).to_parquet(file)
        found[f"data/{split}-00000-of-00001.parquet"] = file.getvalue()
    return found


def train(hub: LocalHub, home: Path, *words: object, endpoint: str = "") -> tuple[Any, str]:
    """Return run.json (None where the training failed) and what was printed."""
    out = home / f"run{len(list(home.glob('run*')))}"
    command = [sys.executable, "train.py", "--data", ID, "--out", out, "--num-proc", 1, *words]
    for override in [*TINY, "training.epochs=1"]:
        command += ["--set", override]
    environment = hub.environment(home) | ({"HF_ENDPOINT": endpoint} if endpoint else {})
    done = subprocess.run(
        list(map(str, command)),
        cwd=REPOSITORY,
        env=environment | {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    run = out / "run.json"
    return json.loads(run.read_text()) if run.exists() else None, done.stdout + done.stderr


def image_requests(hub: LocalHub) -> int:
    return sum(".jpg" in request or ".png" in request for request in hub.requests)


@pytest.mark.second_lane
def test_parquet_dataset_streams_by_default_and_is_cached(hub, parquet, tmp_path) -> None:
    repository: Repository = hub.add_dataset(ID, parquet)
    run, printed = train(hub, tmp_path)
    assert run, printed
    assert run["data"]["id"] == ID
    assert run["data"]["revision"] == repository.refs["refs/heads/main"]
    assert run["data"]["conversion"] is None
    assert run["ela"] == {"computed": 44, "cached": 0}
    assert list(tmp_path.glob("datasets/hf_ela/train-*/00000.arrow"))
    again, _ = train(hub, tmp_path)
    assert again["ela"] == {"computed": 0, "cached": 44}
    assert again["evaluation"] == run["evaluation"]
    mapped, _ = train(hub, tmp_path, "--no-streaming")
    assert mapped["data"]["fingerprint"] == run["data"]["fingerprint"]
    assert mapped["ela"] == {"computed": 44, "cached": 0}


def test_imagefolder_is_read_by_its_conversion_and_both_commits_recorded(
    hub, files, parquet, tmp_path
) -> None:
    repository = hub.add_dataset(ID, files)
    converted = repository.convert(
        {f"default/{name[5:].split('-')[0]}/0000.parquet": data for name, data in parquet.items()}
    )
    run, printed = train(hub, tmp_path)
    assert run, printed
    assert run["data"]["revision"] == repository.refs["refs/heads/main"]
    assert run["data"]["conversion"] == converted
    assert image_requests(hub) == 0


@pytest.mark.second_lane
def test_imagefolder_at_a_pinned_revision_streams_file_by_file(hub, files, tmp_path) -> None:
    repository = hub.add_dataset(ID, files)
    first = repository.refs["refs/heads/main"]
    repository.commit({"train/real/train000.png": b"no image any more"})
    run, printed = train(hub, tmp_path, "--revision", first)
    assert run, printed
    assert run["data"]["revision"] == first
    assert run["data"]["rejected"] == []
    assert image_requests(hub) >= 44
    repository.tag("v1", first)
    tagged, _ = train(hub, tmp_path, "--revision", "v1")
    assert tagged["data"]["revision"] == first
    assert tagged["ela"]["computed"] == 0
    newest, printed = train(hub, tmp_path)
    assert newest is None
    assert "train/real/train000.png: NotAnImageError" in printed


def test_private_dataset_needs_the_token_which_is_never_shown(hub, parquet, tmp_path) -> None:
    hub.add_dataset(ID, parquet, private=True)
    run, printed = train(hub, tmp_path)
    assert run is None
    assert "train.py: " in printed
    assert "hf auth login" in printed
    run, printed = train(hub, tmp_path, "--token", hub.token)
    assert run, printed
    assert hub.token not in printed
    written = (path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert all(hub.token.encode() not in content for content in written)


@pytest.mark.parametrize(
    ("words", "said"),
    [((), f"{ID}"), (("--revision", "v9"), "v9")],
)
def test_what_does_not_exist_is_named(hub, parquet, tmp_path, words, said) -> None:
    if words:
        hub.add_dataset(ID, parquet)
    run, printed = train(hub, tmp_path, *words)
    assert run is None
    assert "train.py: " in printed
    assert said in printed


def test_no_hub_offers_a_way_out(hub, tmp_path) -> None:
    run, printed = train(hub, tmp_path, endpoint="http://127.0.0.1:9")
    assert run is None
    assert "--data" in printed
    assert "HF_ENDPOINT" in printed


@pytest.mark.network
def test_the_published_dataset_trains(tmp_path, python) -> None:
    """With the live Hub: a few images of the published dataset, streamed."""
    words = ["train.py", "--limit", 20, "--out", tmp_path / "run", "--cache-dir", tmp_path / "c"]
    for override in [*TINY, "training.epochs=1"]:
        words += ["--set", override]
    done = python(words, HF_HUB_OFFLINE="0")
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "run/run.json").read_text())["data"]["revision"]) == 40
