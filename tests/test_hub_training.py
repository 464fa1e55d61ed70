"""Training on a dataset of the Hub: the real clients against a Hub over loopback."""

from pathlib import Path
from typing import Any

import pytest

from conftest import CHEAP, LIVE, TINY, files_of, parquet
from hf_ela.data import DataOptions, prepare
from hf_ela.data.preparation import Prepared
from hf_ela.errors import DatasetNotFoundError, TooManyRejectedError
from hf_ela.recipes import load_recipe
from hf_ela.run_record import read_run
from hf_ela.training import train
from hub_server import LocalHub

ID = "somebody/art"
RECIPE = load_recipe("scratch", [*TINY, "training.epochs=1"])


@pytest.fixture(scope="module")
def files(tiny) -> dict[str, bytes]:
    return files_of(tiny)


@pytest.fixture(scope="module")
def parquet_files(files) -> dict[str, bytes]:
    return {f"data/{s}-00000-of-00001.parquet": parquet(files, s) for s in ("train", "test")}


def prepared(folder: Path, **options: Any) -> Prepared:
    return prepare(DataOptions(ID, num_proc=1, cache_dir=str(folder), **options), RECIPE)


def image_requests(hub: LocalHub) -> int:
    return sum(".jpg" in request or ".png" in request for request in hub.requests)


def test_parquet_dataset_streams_by_default_and_is_cached(
    hub, parquet_files, tmp_path, cache
) -> None:
    repository = hub.add_dataset(ID, parquet_files)
    data = prepared(tmp_path / "ela")
    assert data.summary["id"] == ID
    assert data.summary["revision"] == repository.refs["refs/heads/main"]
    assert data.summary["conversion"] is None
    assert (data.computed, data.cached) == (44, 0)
    assert list(tmp_path.glob("ela/train-*/00000.arrow"))
    again = prepared(tmp_path / "ela")
    assert (again.computed, again.cached) == (0, 44)
    assert again.summary == data.summary
    mapped = prepared(tmp_path / "mapped", streaming=False)
    assert mapped.summary["fingerprint"] == data.summary["fingerprint"]
    assert (mapped.computed, mapped.cached) == (44, 0)


def test_imagefolder_is_read_by_its_conversion_and_both_commits_recorded(
    hub, files, parquet_files, tmp_path, cache
) -> None:
    repository = hub.add_dataset(ID, files)
    converted = repository.convert(
        {
            f"default/{name[5:].split('-')[0]}/0000.parquet": data
            for name, data in parquet_files.items()
        }
    )
    found = prepared(tmp_path).summary
    assert found["revision"] == repository.refs["refs/heads/main"]
    assert found["conversion"] == converted
    assert image_requests(hub) == 0


def test_imagefolder_at_a_pinned_revision_streams_file_by_file(hub, files, tmp_path, cache) -> None:
    repository = hub.add_dataset(ID, files)
    first = repository.refs["refs/heads/main"]
    repository.commit({"train/real/train000.png": b"no image any more"})
    found = prepared(tmp_path, revision=first).summary
    assert (found["revision"], found["rejected"]) == (first, [])
    assert image_requests(hub) >= 44
    repository.tag("v1", first)
    tagged = prepared(tmp_path, revision="v1")
    assert (tagged.summary["revision"], tagged.computed) == (first, 0)
    with pytest.raises(TooManyRejectedError, match=r"train/real/train000\.png: NotAnImageError"):
        prepared(tmp_path)


def test_a_private_dataset_trains_with_the_token_which_is_never_written(
    hub, parquet_files, tmp_path, cache, monkeypatch
) -> None:
    repository, said = hub.add_dataset(ID, parquet_files, private=True), []
    options = DataOptions(ID, num_proc=1, cache_dir=str(tmp_path / "ela"))
    with pytest.raises(DatasetNotFoundError, match="hf auth login"):
        train(RECIPE, options, tmp_path / "run", say=said.append)
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("HF_TOKEN", hub.token)
    train(RECIPE, options, tmp_path / "run", say=said.append, **CHEAP)
    assert read_run(tmp_path / "run").data.revision == repository.refs["refs/heads/main"]
    assert hub.token not in "".join(said)
    written = (path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert all(hub.token.encode() not in content for content in written)


@pytest.mark.network
def test_the_published_dataset_trains(tmp_path, python) -> None:
    """With the live Hub: a few images of the published dataset, streamed."""
    words = ["-m", "hf_ela", "train", "--limit", 20, "--out", tmp_path / "run"]
    words += ["--cache-dir", tmp_path / "c", "--recipe", "scratch"]
    for override in [*TINY, "training.epochs=1"]:
        words += ["--set", override]
    done = python(words, **({"HF_ENDPOINT": "https://huggingface.co"} | LIVE))
    assert done.returncode == 0, done.stderr
    assert len(read_run(tmp_path / "run").data.revision or "") == 40
