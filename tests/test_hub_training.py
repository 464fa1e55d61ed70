"""Training on a dataset of the Hub: the real clients against a Hub over loopback."""

import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pytest

from conftest import COMMAND, LIVE, TINY
from hf_ela.data import DataOptions, prepare
from hf_ela.data.preparation import Prepared
from hf_ela.errors import DatasetNotFoundError, TooManyRejectedError
from hf_ela.recipes import load_recipe
from hf_ela.run_record import read_run
from hf_ela.training import train
from hub_server import LocalHub

ID = "somebody/art"
RECIPE = load_recipe("default", [*TINY, "training.epochs=1"])


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


def prepared(folder: Path, **options: Any) -> Prepared:
    return prepare(DataOptions(ID, num_proc=1, cache_dir=str(folder), **options), RECIPE)


def image_requests(hub: LocalHub) -> int:
    return sum(".jpg" in request or ".png" in request for request in hub.requests)


def test_parquet_dataset_streams_by_default_and_is_cached(hub, parquet, tmp_path, cache) -> None:
    repository = hub.add_dataset(ID, parquet)
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
    hub, files, parquet, tmp_path, cache
) -> None:
    repository = hub.add_dataset(ID, files)
    converted = repository.convert(
        {f"default/{name[5:].split('-')[0]}/0000.parquet": data for name, data in parquet.items()}
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
    hub, parquet, tmp_path, cache, monkeypatch
) -> None:
    repository, said = hub.add_dataset(ID, parquet, private=True), []
    options = DataOptions(ID, num_proc=1, cache_dir=str(tmp_path / "ela"))
    cheap = {"plots": False, "export": False, "resamples": 20, "perturbations": ["blur"]}
    with pytest.raises(DatasetNotFoundError, match="hf auth login"):
        train(RECIPE, options, tmp_path / "run", say=said.append)
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("HF_TOKEN", hub.token)
    train(RECIPE, options, tmp_path / "run", say=said.append, **cheap)
    assert read_run(tmp_path / "run").data.revision == repository.refs["refs/heads/main"]
    assert hub.token not in "".join(said)
    written = (path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert all(hub.token.encode() not in content for content in written)


def test_what_does_not_exist_is_named(hub, parquet, tmp_path) -> None:
    with pytest.raises(DatasetNotFoundError, match=ID):
        prepared(tmp_path)
    hub.add_dataset(ID, parquet)
    with pytest.raises(DatasetNotFoundError, match="v9"):
        prepared(tmp_path, revision="v9")


def test_no_hub_offers_a_way_out(hub, tmp_path) -> None:
    environment = hub.environment(tmp_path) | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [*COMMAND, "train", "--data", ID, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "local" in done.stderr
    assert "HF_ENDPOINT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.network
def test_the_published_dataset_trains(tmp_path, python) -> None:
    """With the live Hub: a few images of the published dataset, streamed."""
    words = ["-m", "hf_ela", "train", "--limit", 20, "--out", tmp_path / "run"]
    words += ["--cache-dir", tmp_path / "c"]
    for override in [*TINY, "training.epochs=1"]:
        words += ["--set", override]
    done = python(words, **({"HF_ENDPOINT": "https://huggingface.co"} | LIVE))
    assert done.returncode == 0, done.stderr
    assert len(read_run(tmp_path / "run").data.revision or "") == 40
