"""Models of the Hub, loaded by the real clients from a Hub over loopback.

The clients read their environment when they are imported, so models are loaded in a process of its
own, which gets the arguments of `from_pretrained` and gives back scores or the error.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bad_files import encode, picture
from hf_ela import ElaClassifier
from hub_server import LocalHub, Repository
from networks import crops_classifier

ID = "somebody/ela"
COMMAND = "import sys; from hf_ela.cli import main; sys.exit(main())"

# Reads the arguments of `from_pretrained` from each line, and answers with a line. Between loading
# and asking for the Keras network it answers once more, where it is to ask for it.
LOADER = """
import json, sys
from hf_ela import ElaClassifier
from hf_ela.errors import HfElaError

for line in sys.stdin:
    arguments = json.loads(line)
    network = arguments.pop("network", False)
    try:
        classifier = ElaClassifier.from_pretrained(arguments.pop("source"), **arguments)
        scores = list(classifier.scores([sys.argv[1]]))
        answer = {"revision": classifier.revision, "scores": scores}
        if network:
            print(json.dumps(answer), flush=True)
            sys.stdin.readline()
            answer = {"parameters": classifier.model.count_params()}
    except HfElaError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), flush=True)
"""

Load = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as server:
        yield server


@pytest.fixture(autouse=True)
def quiet(hub: LocalHub) -> None:
    hub.requests.clear()
    hub.clear_faults()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    crops_classifier().save_pretrained(folder, onnx=False)
    return folder


@pytest.fixture(scope="module")
def files(saved: Path) -> dict[str, bytes]:
    own = {path.name: path.read_bytes() for path in saved.iterdir()}
    return own | {"README.md": b"# A card\n", "handler.py": b"raise SystemExit\n"}


@pytest.fixture(scope="module")
def folder(saved_crops: Path) -> Path:
    """A model that was saved with ONNX."""
    return saved_crops


@pytest.fixture(scope="module")
def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "a.png"
    path.write_bytes(encode(picture(200, 100), "PNG"))
    return path


@pytest.fixture(scope="module")
def expected(saved: Path, image: Path) -> list[Any]:
    return list(ElaClassifier.from_pretrained(saved).scores([image]))


@pytest.fixture(scope="module")
def released(hub: LocalHub, files: dict[str, bytes]) -> Repository:
    """Tag v1 is the model; main is one commit on, with the same model."""
    repository = hub.add_model(ID, files)
    repository.tag("v1")
    repository.commit({"README.md": b"# A better card\n"})
    return repository


def start(environment: Mapping[str, str], image: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", LOADER, str(image)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=dict(environment),
    )


def ask(process: subprocess.Popen[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(arguments) + "\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hf")


@pytest.fixture(scope="module")
def load(hub: LocalHub, home: Path, image: Path) -> Iterator[Load]:
    with start(hub.environment(home), image) as process:
        yield lambda source=ID, **arguments: ask(process, {"source": source, **arguments})


class TestLoading:
    def test_only_what_is_needed_from_one_commit(
        self, hub: LocalHub, released: Repository, load: Load, expected: list[Any]
    ) -> None:
        commit = released.find("v1").sha
        assert load(revision="v1") == {"revision": commit, "scores": expected}
        asked = {request.partition("/resolve/")[2] for request in hub.requests}
        assert asked == {"v1/hf_ela.json 200", f"{commit}/model.weights.h5 200"}
        hub.requests.clear()
        assert load(revision=commit) == {"revision": commit, "scores": expected}
        assert hub.requests == []

    def test_head_of_main_by_default(
        self, released: Repository, load: Load, expected: list[Any]
    ) -> None:
        head = released.find("main").sha
        assert head != released.find("v1").sha
        assert load() == {"revision": head, "scores": expected}

    def test_private_needs_the_token(
        self, hub: LocalHub, files: dict[str, bytes], load: Load, expected: list[Any]
    ) -> None:
        hub.add_model("somebody/private", files, private=True)
        refused = load("somebody/private")
        assert refused["error"] == "ModelNotFoundError"
        assert "hf auth login" in refused["message"]
        assert load("somebody/private", token=hub.token)["scores"] == expected
        wrong = load("somebody/private", token="hf_wrong", revision="main")
        assert "hf_wrong" not in str(wrong)

    def test_a_cache_of_ones_own(
        self, released: Repository, load: Load, tmp_path: Path, expected: list[Any]
    ) -> None:
        here = {"cache_dir": str(tmp_path), "revision": "v1"}
        missing = load(**here, local_files_only=True)
        assert missing["error"] == "HubUnreachableError"
        assert str(tmp_path) in missing["message"]
        assert load(**here)["scores"] == expected
        assert load(**here, local_files_only=True)["scores"] == expected

    def test_the_command_takes_a_revision(
        self, hub: LocalHub, released: Repository, home: Path, image: Path, expected: list[Any]
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "predict", image, "--model", f"{ID}@v1", "--json"],
            env=hub.environment(home),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["scores"]["fake"] == expected[0]


class TestWithOnnx:
    def fetched(self, hub: LocalHub) -> set[str]:
        requests = [request.partition("/resolve/")[2] for request in hub.requests]
        return {request.partition("/")[2].split()[0] for request in requests if request}

    @pytest.mark.parametrize(
        ("runtime", "needed"),
        [(None, "network.onnx"), ("onnx", "network.onnx"), ("keras", "model.weights.h5")],
    )
    def test_only_what_the_runtime_needs(
        self,
        hub: LocalHub,
        held: dict[str, bytes],
        folder: Path,
        load: Load,
        image: Path,
        tmp_path: Path,
        runtime: Any,
        needed: str,
    ) -> None:
        hub.add_model("somebody/onnx", held)
        answer = load("somebody/onnx", runtime=runtime, cache_dir=str(tmp_path))
        local = ElaClassifier.from_pretrained(folder, runtime=runtime)
        assert answer["scores"] == list(local.scores([image]))
        assert self.fetched(hub) == {"hf_ela.json", needed}

    def test_the_network_is_of_the_same_commit(
        self, hub: LocalHub, held: dict[str, bytes], home: Path, image: Path, tmp_path: Path
    ) -> None:
        repository = hub.add_model("somebody/later", held)
        first = repository.find("main").sha
        arguments = {"source": "somebody/later", "network": True, "cache_dir": str(tmp_path)}
        with start(hub.environment(home), image) as process:
            assert ask(process, arguments)["revision"] == first
            repository.commit({"model.weights.h5": b"of another model"})
            hub.requests.clear()
            assert ask(process, {}) == {"parameters": crops_classifier().model.count_params()}
        assert {request.partition("/resolve/")[2] for request in hub.requests} == {
            f"{first}/model.weights.h5 200"
        }

    @pytest.mark.parametrize(
        ("data", "said", "got"),
        [
            (bytes(2**24), "It is damaged, or was not", {"hf_ela.json"}),
            (b"no ONNX", "checksum", {"hf_ela.json", "network.onnx"}),
            (None, "has network.onnx", {"hf_ela.json"}),
        ],
    )
    def test_what_is_not_valid_is_refused(
        self,
        hub: LocalHub,
        held: dict[str, bytes],
        load: Load,
        tmp_path: Path,
        data: bytes | None,
        said: str,
        got: set[str],
    ) -> None:
        changed = {**held, "network.onnx": data}
        hub.add_model(
            "somebody/hostile-onnx", {key: value for key, value in changed.items() if value}
        )
        refused = load("somebody/hostile-onnx", cache_dir=str(tmp_path))
        assert refused["error"] == "ModelError"
        assert said in refused["message"]
        answered = {r.rpartition("/")[2].split()[0] for r in hub.requests if r.endswith(" 200")}
        gets = {r.rpartition("/")[2].split()[0] for r in hub.requests if r.startswith("GET")}
        assert answered & gets & {*held} == got


class TestWithoutTheHub:
    def test_offline_from_the_cache(
        self, hub: LocalHub, released: Repository, load: Load, home: Path, image: Path
    ) -> None:
        online = [load(revision="v1"), load()]
        hub.requests.clear()
        with start(hub.environment(home) | {"HF_HUB_OFFLINE": "1"}, image) as process:
            offline = [
                ask(process, {"source": ID, "revision": revision})
                for revision in ("v1", "main", released.find("v1").sha)
            ]
            never = ask(process, {"source": ID, "revision": "v2"})
        assert offline == [*online, online[0]]
        assert never["error"] == "HubUnreachableError"
        assert "With HF_HUB_OFFLINE" in never["message"]
        assert "Load it once with the network" in never["message"]
        assert hub.requests == []

    def test_no_answer_serves_what_was_seen_last(
        self, hub: LocalHub, files: dict[str, bytes], load: Load
    ) -> None:
        repository = hub.add_model("somebody/moving", files)
        first = load("somebody/moving")
        second = repository.commit({"README.md": b"# Moved\n"})
        hub.fault("*", "somebody/moving", status=501)  # for others the client tries again, for long
        assert load("somebody/moving") == first
        refused = load("somebody/moving", revision=second)
        assert refused["error"] == "HubUnreachableError"
        assert "status 501" in refused["message"]
        hub.clear_faults()
        assert load("somebody/moving")["revision"] == second

    def test_a_cut_download_is_taken_up_again(
        self, hub: LocalHub, released: Repository, load: Load, tmp_path: Path, expected: list[Any]
    ) -> None:
        cut = hub.fault("GET", "model.weights.h5", drop="half", times=1)
        assert load(cache_dir=str(tmp_path))["scores"] == expected
        assert cut.met == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("found", "library"),
        [
            ({"config.json": b"{}", "pytorch_model.bin": b"\x80"}, "pytorch_model.bin"),
            ({"art_model.h5": b"\x89HDF"}, "art_model.h5"),
            ({"README.md": b""}, "README.md"),
        ],
    )
    def test_another_kind_of_model(
        self, hub: LocalHub, load: Load, found: dict[str, bytes], library: str
    ) -> None:
        hub.add_model("somebody/other", found)
        refused = load("somebody/other")
        assert refused["error"] == "ModelError"
        assert "A model of hf-ela on the Hub has hf_ela.json" in refused["message"]
        assert library in refused["message"]

    def test_what_does_not_exist(self, released: Repository, load: Load) -> None:
        revision = load(revision="v9")
        assert revision["error"] == "ModelNotFoundError"
        assert "tags: v1" in revision["message"]
        name = load("somebody/nothing")
        assert name["error"] == "ModelNotFoundError"
        assert "There is no local folder somebody/nothing either" in name["message"]
        assert load("somebody/--..")["error"] == "ModelNotFoundError"

    @pytest.mark.parametrize(
        ("name", "data", "said", "got"),
        [
            # More than is allowed: not even downloaded.
            ("hf_ela.json", b" " * (2**24 + 1), "at most 16,777,216 bytes", set()),
            ("model.weights.h5", bytes(2**24), "It is damaged, or was not", {"hf_ela.json"}),
            # Not valid: nothing comes after it.
            ("hf_ela.json", b"{}", "`recipe`: Field required", {"hf_ela.json"}),
            ("hf_ela.json", b'{"schema": 5}', "Upgrade", {"hf_ela.json"}),
            ("hf_ela.json", b"[" * 9999, "must be JSON", {"hf_ela.json"}),
            # Damaged.
            ("model.weights.h5", b"\x89HDF", "checksum", {"hf_ela.json", "model.weights.h5"}),
            ("model.weights.h5", None, "has model.weights.h5", {"hf_ela.json"}),
        ],
    )
    def test_what_is_not_valid_is_not_fetched_further(
        self,
        hub: LocalHub,
        files: dict[str, bytes],
        load: Load,
        tmp_path: Path,
        name: str,
        data: bytes | None,
        said: str,
        got: set[str],
    ) -> None:
        changed = {key: value for key, value in {**files, name: data}.items() if value is not None}
        hub.add_model("somebody/hostile", changed)
        refused = load("somebody/hostile", cache_dir=str(tmp_path))
        assert refused["error"] == "ModelError"
        assert said in refused["message"]
        fetched = {
            request.rpartition("/")[2].split()[0]
            for request in hub.requests
            if request.startswith("GET") and "/resolve/" in request and request.endswith(" 200")
        }
        assert fetched == got


def test_a_folder_needs_no_client_of_the_hub(saved: Path) -> None:
    code = (
        "import sys; from hf_ela.hub.locate import locate;"
        "from hf_ela.models.settings import read_settings;"
        "from pathlib import Path; folder, commit = locate(sys.argv[1]);"
        "read_settings(folder / 'hf_ela.json');"
        "assert commit is None; assert 'huggingface_hub' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, saved], check=False)
    assert done.returncode == 0
