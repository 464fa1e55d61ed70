"""Models of the Hub, loaded by the real client from a Hub over loopback."""

import json
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session

from hf_ela import ElaClassifier
from hf_ela.errors import HfElaError, HubUnreachableError, ModelError, ModelNotFoundError
from hf_ela.hub.locate import packaged_model
from hub_server import LocalHub, Repository

ID = "somebody/ela"


@pytest.fixture
def image(pictures) -> Path:
    return pictures[-1]


@pytest.fixture
def files(tiny_run) -> dict[str, bytes]:
    """A model with weights alone."""
    found = {path.name: path.read_bytes() for path in (tiny_run / "weights").iterdir()}
    settings = json.loads(found["hf_ela.json"])
    settings["sha256"] = {"model.weights.h5": settings["sha256"]["model.weights.h5"]}
    kept = {name: data for name, data in found.items() if not name.endswith(".onnx")}
    kept |= {"README.md": b"# A card\n", "handler.py": b"raise SystemExit\n"}
    return kept | {"hf_ela.json": json.dumps(settings).encode()}


@pytest.fixture
def onnx_files(tiny_run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tiny_run / "weights").iterdir()}


@pytest.fixture
def released(hub, files) -> Repository:
    """Tag v1 is the model; main is one commit on, with the same model."""
    repository = hub.add_model(ID, files)
    repository.tag("v1")
    repository.commit({"README.md": b"# A better card\n"})
    return repository


@pytest.fixture
def expected(tiny_run, image) -> list[Any]:
    return list(ElaClassifier.from_pretrained(tiny_run, runtime="keras").scores([image]))


def fetched(hub: LocalHub) -> set[str]:
    """Names of the files that were downloaded."""
    return {
        line.rpartition("/")[2].split()[0]
        for line in hub.requests
        if line.startswith("GET") and "/resolve/" in line and line.endswith(" 200")
    }


class TestLoading:
    def test_only_what_is_needed_from_one_commit(self, hub, released, image, expected) -> None:
        commit = released.find("v1").sha
        classifier = ElaClassifier.from_pretrained(ID, revision="v1")
        assert classifier.revision == commit
        assert list(classifier.scores([image])) == expected
        asked = {request.partition("/resolve/")[2] for request in hub.requests}
        needed = {"v1/hf_ela.json 200", f"{commit}/model.weights.h5 200"}
        assert asked == needed | {f"{commit}/config.json 200"}
        hub.requests.clear()
        assert ElaClassifier.from_pretrained(ID, revision=commit).revision == commit
        assert hub.requests == []
        head = released.find("main").sha
        assert head != commit
        assert ElaClassifier.from_pretrained(ID).revision == head

    @pytest.mark.parametrize("runtime", ["onnx", "keras"])
    def test_the_hub_counts_one_download(self, hub, onnx_files, runtime) -> None:
        """It counts requests, GET and HEAD, for config.json."""

        def counted() -> int:
            return sum("/config.json " in request for request in hub.requests)

        repository = hub.add_model(ID, onnx_files)
        first = ElaClassifier.from_pretrained(ID, runtime=runtime)
        assert counted() == 1
        assert first.model.count_params()  # downloads the weights too, after ONNX
        ElaClassifier.from_pretrained(ID)
        assert counted() == 1
        repository.commit({"README.md": b"# Another release\n"})
        hub.fault("HEAD", "/config.json", status=404)  # of no matter for loading
        assert ElaClassifier.from_pretrained(ID, runtime=runtime).revision != first.revision
        assert counted() == 2

    def test_private_needs_the_token(self, hub, files) -> None:
        hub.add_model("somebody/private", files, private=True)
        with pytest.raises(ModelNotFoundError, match="hf auth login"):
            ElaClassifier.from_pretrained("somebody/private")
        assert ElaClassifier.from_pretrained("somebody/private", token=hub.token).revision

    def test_a_cache_of_ones_own(self, released, tmp_path) -> None:
        here = {"cache_dir": tmp_path / "mine", "revision": "v1"}
        with pytest.raises(HubUnreachableError, match=str(tmp_path)):
            ElaClassifier.from_pretrained(ID, **here, local_files_only=True)
        first = ElaClassifier.from_pretrained(ID, **here)
        again = ElaClassifier.from_pretrained(ID, **here, local_files_only=True)
        assert again.revision == first.revision == released.find("v1").sha

    def test_the_command_takes_a_revision(self, released, image, expected, command) -> None:
        assert (
            json.loads(command(f"predict {image} --model {ID}@v1 --json").out)["probability"]
            == expected[0]
        )


class TestWithOnnx:
    @pytest.mark.parametrize(
        ("runtime", "needed"),
        [(None, "network.onnx"), ("onnx", "network.onnx"), ("keras", "model.weights.h5")],
    )
    def test_only_what_the_runtime_needs(
        self, hub, onnx_files, tiny_run, image, runtime, needed
    ) -> None:
        hub.add_model("somebody/onnx", onnx_files)
        found = ElaClassifier.from_pretrained("somebody/onnx", runtime=runtime)
        local = ElaClassifier.from_pretrained(tiny_run, runtime=runtime)
        assert list(found.scores([image])) == list(local.scores([image]))
        assert fetched(hub) == {"hf_ela.json", needed}

    def test_the_network_is_of_the_same_commit(self, hub, onnx_files, tiny_run) -> None:
        repository = hub.add_model("somebody/later", onnx_files)
        first = repository.find("main").sha
        classifier = ElaClassifier.from_pretrained("somebody/later")
        assert classifier.revision == first
        repository.commit({"model.weights.h5": b"of another model"})
        hub.requests.clear()
        local = ElaClassifier.from_pretrained(tiny_run, runtime="keras")
        assert classifier.model.count_params() == local.model.count_params()
        assert {request.partition("/resolve/")[2] for request in hub.requests} == {
            f"{first}/model.weights.h5 200"
        }


OFFLINE = """
import json, sys
from hf_ela import ElaClassifier
from hf_ela.errors import HubUnreachableError
found = [ElaClassifier.from_pretrained(sys.argv[1], revision=r).revision for r in sys.argv[2:]]
try:
    ElaClassifier.from_pretrained(sys.argv[1], revision="v2")
except HubUnreachableError as error:
    found.append(str(error))
print(json.dumps(found))
"""


class TestWithoutTheHub:
    def test_offline_from_the_cache(self, hub, onnx_files, tmp_path, python) -> None:
        repository = hub.add_model(ID, onnx_files)
        repository.tag("v1")
        commit = repository.find("v1").sha
        for revision in ("v1", "main"):
            ElaClassifier.from_pretrained(ID, revision=revision)
        hub.requests.clear()
        # The client reads the variable when it is imported.
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
        done = python(["-c", OFFLINE, ID, "v1", "main", commit], **offline)
        *found, never = json.loads(done.stdout)
        assert found == [commit] * 3
        assert "HF_HUB_OFFLINE is set" in never
        assert "Load it once with the network" in never
        assert hub.requests == []

    def test_no_answer_serves_what_was_seen_last(self, hub, onnx_files) -> None:
        repository = hub.add_model("somebody/moving", onnx_files)
        first = ElaClassifier.from_pretrained("somebody/moving").revision
        second = repository.commit({"README.md": b"# Moved\n"})
        hub.fault("*", "somebody/moving", status=501)  # for others the client tries again, for long
        assert ElaClassifier.from_pretrained("somebody/moving").revision == first
        with pytest.raises(HubUnreachableError, match="status 501"):
            ElaClassifier.from_pretrained("somebody/moving", revision=second)
        hub.clear_faults()
        assert ElaClassifier.from_pretrained("somebody/moving").revision == second

    def test_a_cut_download_is_taken_up_again(self, hub, onnx_files) -> None:
        hub.add_model(ID, onnx_files)
        cut = hub.fault("GET", "network.onnx", drop="half", times=1)
        assert ElaClassifier.from_pretrained(ID).revision
        assert cut.met == 1


class TestRefusals:
    @pytest.mark.parametrize(
        "found", [{"config.json": b"{}", "pytorch_model.bin": b"\x80"}, {"README.md": b""}]
    )
    def test_another_kind_of_model(self, hub, found) -> None:
        hub.add_model("somebody/other", found)
        with pytest.raises(ModelError, match="is not an hf-ela model: it has no hf_ela") as caught:
            ElaClassifier.from_pretrained("somebody/other")
        assert list(found)[-1] in str(caught.value)

    def test_what_does_not_exist(self, hub, released) -> None:
        with pytest.raises(ModelNotFoundError, match="tags: v1"):
            ElaClassifier.from_pretrained(ID, revision="v9")
        with pytest.raises(ModelNotFoundError, match="No local folder somebody/nothing exists"):
            ElaClassifier.from_pretrained("somebody/nothing")
        with pytest.raises(ModelNotFoundError):
            ElaClassifier.from_pretrained("somebody/--..")

    @pytest.mark.parametrize(
        ("name", "data", "said", "got"),
        [
            # More than is allowed: not even downloaded.
            ("hf_ela.json", b" " * (2**22 + 1), "at most 4,194,304 bytes", set()),
            ("model.weights.h5", bytes(2**24), "corrupt or malicious", {"hf_ela.json"}),
            ("network.onnx", bytes(2**24), "corrupt or malicious", {"hf_ela.json"}),
            # Not valid: nothing comes after it.
            ("hf_ela.json", b"{}", "`recipe`: Field required", {"hf_ela.json"}),
            ("hf_ela.json", b'{"schema": 5}', "Upgrade", {"hf_ela.json"}),
            ("hf_ela.json", b"[" * 9999, "JSON", {"hf_ela.json"}),
            # Corrupt.
            ("model.weights.h5", b"\x89HDF", "checksum", {"hf_ela.json", "model.weights.h5"}),
            ("network.onnx", b"no ONNX", "checksum", {"hf_ela.json", "network.onnx"}),
            ("model.weights.h5", None, "has no model.weights.h5", {"hf_ela.json"}),
            ("network.onnx", None, "has no network.onnx", {"hf_ela.json"}),
        ],
    )
    def test_what_is_not_valid_is_not_fetched_further(
        self, hub, files, onnx_files, name, data, said, got
    ) -> None:
        whole = onnx_files if name == "network.onnx" else files
        changed = {key: value for key, value in {**whole, name: data}.items() if value is not None}
        hub.add_model("somebody/hostile", changed)
        with pytest.raises(ModelError, match=said):
            ElaClassifier.from_pretrained("somebody/hostile")
        assert fetched(hub) == got


@pytest.fixture
def packaged(hub) -> Callable[..., HfElaError | str]:
    """Load the packaged model from the Hub; return its commit, or the error."""
    model = packaged_model()
    names = ("hf_ela.json", "network.onnx")
    hub.add_model(ID, {name: (model / name).read_bytes() for name in names})

    def load(**options: Any) -> HfElaError | str:
        try:
            return str(ElaClassifier.from_pretrained(ID, **options).revision)
        except HfElaError as error:
            return error

    return load


def test_it_is_pickled_by_its_commit_and_without_the_token(hub, packaged) -> None:
    commit = packaged()
    pickled = pickle.dumps(ElaClassifier.from_pretrained(ID, token=hub.token))
    assert hub.token.encode() not in pickled
    hub.repositories["models", ID].commit({"hf_ela.json": b"{}"})
    hub.requests.clear()
    assert pickle.loads(pickled).revision == commit
    assert hub.requests == []


class TestCauses:
    """What is wrong is not the model, and the message says what it is."""

    @pytest.mark.parametrize(
        ("address", "said"),
        [
            ("socks5://me:secret@127.0.0.1:9", "SOCKS proxy, which requires the package `socksio`"),
            ("ftp://me:secret@127.0.0.1:9", "no valid address"),
            ("http://me:secret@127.0.0.1:port", "no valid address"),
        ],
    )
    def test_a_proxy_that_cannot_be_used(self, packaged, monkeypatch, address, said) -> None:
        monkeypatch.setenv("ALL_PROXY", address)
        close_session()  # the client reads it when it is made
        found = packaged()
        monkeypatch.delenv("ALL_PROXY")
        close_session()
        assert isinstance(found, HubUnreachableError)
        assert said in str(found)
        assert "ALL_PROXY" in str(found)
        assert "secret" not in str(found)

    def test_a_token_that_is_no_longer_valid(self, hub, packaged, monkeypatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_expired")
        for found in (packaged(), packaged(token="hf_other")):
            assert isinstance(found, ModelNotFoundError)
            assert "does not accept your token" in str(found)
            assert "hf auth login" in str(found)
            assert not {"hf_expired", "hf_other", "private"} & {*str(found).split()}
        monkeypatch.delenv("HF_TOKEN")
        assert isinstance(packaged(), str)

    def test_a_cache_that_cannot_be_written_or_is_full(self, packaged, tmp_path) -> None:
        (tmp_path / "file").write_bytes(b"")
        found = packaged(cache_dir=tmp_path / "file" / "cache")
        assert str(found).startswith(f"Not a directory: {tmp_path / 'file'}")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
        found = packaged(cache_dir=tmp_path / "full")
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert str(found).startswith(f"File too large: {tmp_path / 'full'}")
        assert isinstance(packaged(cache_dir=tmp_path / "full"), str)

    @pytest.mark.parametrize("name", ["hf_ela.json", "network.onnx"])
    def test_a_file_damaged_in_the_cache_is_fetched_again(
        self, hub, packaged, tmp_path, name
    ) -> None:
        commit = packaged()
        (stored,) = (path.resolve() for path in (tmp_path / "hub").rglob(name))
        whole = stored.read_bytes()
        stored.write_bytes(whole.replace(b"1", b"2", 1))  # of the same size
        hub.requests.clear()
        assert "Remove" in str(packaged(local_files_only=True))
        assert packaged() == commit
        assert stored.read_bytes() == whole
        assert fetched(hub) == {name}
        # Damaged on each way: the file to remove is named.
        stored.write_bytes(whole.replace(b"1", b"2", 1))
        repository = hub.repositories["models", ID]
        repository.find("main").files[name] = whole.replace(b"1", b"3", 1)
        assert isinstance(found := packaged(), ModelError)
        assert f"Remove {stored}" in str(found)


def test_a_folder_needs_no_client_of_the_hub(tiny_run, python) -> None:
    code = (
        "import sys; from hf_ela.hub.locate import locate;"
        "from hf_ela.models.settings import read_settings;"
        "from pathlib import Path; folder, commit = locate(sys.argv[1]);"
        "read_settings(folder / 'hf_ela.json');"
        "assert commit is None; assert 'huggingface_hub' not in sys.modules"
    )
    done = python(["-c", code, tiny_run / "weights"])
    assert done.returncode == 0, done.stderr
