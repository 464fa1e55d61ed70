"""Every command and program that README.md and a model card show is run, as a reader would do it.

A reader has a checkout, this environment on the PATH, and the files that the text speaks of; the
Hub is on loopback. What is changed in a command before it is run stands in `changed`, with the
reason.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from conftest import REPOSITORY, TINY, picture, write_folder
from hub_server import LocalHub

DATASET = "DataScienceProject/Art_Images_Ai_And_Real_"
SHORT = shlex.join(word for setting in TINY for word in ("--set", setting))
SMALL_INPUT = "--set training.epochs=1 --set input.before=48 --set input.size=32"
COMMAND = re.compile(r"(?:.*\\\n)*.*\S.*")  # a line, with those that it is continued on
# In a block without a language, which is for what a program prints.
FORGOTTEN = re.compile(r"^(\$|(from|git|hf|hf-ela|import|make|pip|python) )", re.MULTILINE)
ANSWER = re.compile(r"\[\{.*?\}\]")

# What the interpreter does at its prompt: the value of an expression is printed.
PROMPT = """
import ast, sys
names = {}
for statement in ast.parse(sys.stdin.read()).body:
    exec(compile(ast.Interactive([statement]), "<snippet>", "single"), names)
"""


@dataclass(frozen=True)
class Snippet:
    """A command line, or a block in another language.

    Attributes:
        promise: The answer that the text shows, in the block or after it.
    """

    line: int
    language: str
    text: str
    promise: str | None = None

    def __str__(self) -> str:
        return f"line {self.line}: {self.text.splitlines()[0].partition(' #')[0].rstrip()}"


def snippets(document: str) -> list[Snippet]:
    """Find all that a document shows to be run."""
    found = []
    for token in MarkdownIt().parse(document):
        if token.type not in ("fence", "code_block"):
            continue
        line = token.map[0] + 1
        if token.info == "sh":
            for match in COMMAND.finditer(token.content):
                number = line + 1 + token.content.count("\n", 0, match.start())
                found.append(Snippet(number, "sh", match[0]))
        elif token.info or FORGOTTEN.search(token.content):
            answer = ANSWER.search("\n".join(document.splitlines()[line:]))
            found.append(Snippet(line, token.info, token.content, answer and answer[0]))
    return found


def changed(command: str, endpoint: str) -> str:
    """Return a command as it is run here."""
    for pattern, replacement in (
        # A small network and two epochs: the default recipe takes minutes.
        (r"^python train\.py(?!.*--(recipe|resume))", f"python train.py {SHORT}"),
        # The published recipe on small pictures, once: 29 million parameters take minutes too.
        (r"--recipe reference", rf"\g<0> {SMALL_INPUT}"),
        # Gigabytes. test_deploy.py installs for real, and so does any environment with this test.
        (r'^pip install (?="?\.)', "pip install --dry-run --no-deps "),
        # The wheel of the card is installed, but beside this environment and without the rest.
        (r'^pip install (?="hf-ela)', "pip install --no-deps --target site "),
        # It asks for the token at the terminal.
        (r"^hf auth login", r'\g<0> --token "$HF_TOKEN"'),
        ("https://huggingface.co", endpoint),
        # `make test` would come here again.
        (r"^make ", "make --dry-run "),
    ):
        command = re.sub(pattern, replacement, command)
    return command


@dataclass(frozen=True)
class Reader:
    """Somebody with a folder to work in and the Hub at hand."""

    hub: LocalHub
    folder: Path
    environment: dict[str, str]

    def run(self, snippet: Snippet) -> str:
        """Do what a snippet says and return what it printed."""
        if snippet.language == "sh":
            words = ["sh", "-c", changed(snippet.text, self.hub.endpoint)]
        elif snippet.language == "python":
            words = ["python", "-c", PROMPT]
        else:
            pytest.fail(f"{snippet}: no test runs the language {snippet.language!r}")
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            input=snippet.text if snippet.language == "python" else "",
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if "No matching distribution found for hatchling" in done.stderr:
            pytest.skip("nothing can be built here without a package registry")
        assert done.returncode == 0, f"{snippet}\n{words[-1]}\n{done.stdout}\n{done.stderr}"
        self.check(snippet, done.stdout)
        return done.stdout

    def check(self, snippet: Snippet, out: str) -> None:
        """See that a snippet did what the text says of it."""
        text, repositories = snippet.text, self.hub.repositories
        if snippet.promise:
            assert shape(ast.literal_eval(out)) == shape(json.loads(snippet.promise))
        if text.startswith("pip install"):
            project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
            for extras in re.findall(r"\[([\w,]+)\]", text):  # pip only warns of a wrong one
                assert set(extras.split(",")) <= project["optional-dependencies"].keys()
        if text.startswith("make demo"):  # README.md shows how its output ends
            shown = re.findall(r"^\.venv/bin/.*\n", (self.folder / "README.md").read_text(), re.M)
            assert shown
            assert set(shown) <= set(out.splitlines(keepends=True))
        if "hf-ela ela painting.jpg" in text:
            assert (self.folder / "painting.ela.png").exists()
        if "hf-ela predict" in text and "--json" in text:
            found = [json.loads(line)["scores"].keys() for line in out.splitlines()]
            assert found == [{"fake", "real"}] * 3
        if "train.py" in text:
            folder = re.search(r"Written to (\S+):", out)[1]
            run = json.loads((self.folder / folder / "run.json").read_text())
            local = "--data" in text or "--resume" in text
            assert run["data"]["id"] == ("folder" if local else DATASET)
            assert run["recipe"]["name"] == ("reference" if "reference" in text else "default")
            assert run["data"]["limit"] == (200 if "--limit 200" in text else None)
            assert bool(run["data"]["groups"]) == ("--groups" in text)
        if "push_to_hub.py" in text and "--dry-run" in text:
            assert "nothing was sent" in out
        elif "push_to_hub.py" in text:
            repo = re.search(r" (user/\w+) ", text)[1]
            assert "--tag v1.0.0" in text
            assert repositories["models", repo].find("v1.0.0")
            assert "--space" not in text or repositories["spaces", "user/demo"].find("main")


def shape(answer: list[dict[str, object]]) -> list[object]:
    """What two predictions have in common, whatever the picture."""
    kinds = [{key: type(value) for key, value in entry.items()} for entry in answer]
    return [kinds, sorted(str(entry["label"]) for entry in answer)]


# --- The world of the reader -------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tiny: Path) -> Iterator[LocalHub]:
    """A Hub with the dataset; `user/repo` is the reader's."""
    files = {path.relative_to(tiny).as_posix(): path.read_bytes() for path in tiny.rglob("*.*g")}
    with LocalHub() as hub:
        hub.organizations = ("user",)
        hub.add_dataset(DATASET, files)
        yield hub


@pytest.fixture(scope="module")
def environment(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("home")
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return hub.environment(folder) | {
        "HF_TOKEN": hub.token,
        "PATH": scripts,
        "KERAS_BACKEND": "jax",
        # The same small programs again and again: compiled once.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with what the text speaks of, but runs. Not to be changed."""
    folder = tmp_path_factory.mktemp("reader") / "checkout"
    folder.mkdir()
    for name in ("README.md", "LICENSE", "Makefile", "pyproject.toml", "train.py"):
        shutil.copy(REPOSITORY / name, folder)
    shutil.copy(REPOSITORY / "push_to_hub.py", folder)
    for name in ("src", "model_card"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    picture(1, fake=True, side=200).save(folder / "painting.jpg", quality=90)
    (folder / "scans").mkdir()
    for seed in (2, 3):
        picture(seed, fake=False, side=150).save(folder / "scans" / f"{seed}.png")
    data = write_folder(folder / "my" / "folder")
    names = [path.relative_to(data).as_posix() for path in sorted(data.rglob("*.*g"))]
    rows = "".join(f"{name},{name}\n" for name in names)
    (folder / "my" / "groups.csv").write_text(f"file_name,group\n{rows}")
    (folder / "FOLDER").symlink_to(data)  # of the card: the reader's own copy of the images
    return folder


def training(out: str, *words: str) -> list[str]:
    return ["python", "train.py", "--out", out, *shlex.split(SHORT), *words]


def trained(checkout: Path, environment: dict[str, str], out: str, *words: str) -> Path:
    done = subprocess.run(
        training(out, *words),
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return checkout / out


@pytest.fixture(scope="module")
def run(checkout: Path, environment: dict[str, str]) -> Path:
    """A run made from a folder."""
    return trained(checkout, environment, "run", "--data", "my/folder")


@pytest.fixture(scope="module")
def hub_run(checkout: Path, environment: dict[str, str]) -> Path:
    """A run made from the Hub."""
    return trained(checkout, environment, "hub_run")


@pytest.fixture(scope="module")
def interrupted(checkout: Path, environment: dict[str, str]) -> Path:
    """A run that was killed when its data was ready; test_training.py does it at other times."""
    out = checkout / "interrupted"
    words = training(out.name, "--data", "my/folder")
    with subprocess.Popen(
        words, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        deadline = time.monotonic() + 120
        while not (out / "checkpoint" / "data.json").exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.communicate()
    assert not (out / "run.json").exists()
    return out


@pytest.fixture
def reader(hub: LocalHub, environment: dict[str, str], checkout: Path, tmp_path: Path) -> Reader:
    """Somebody in a fresh copy of the checkout."""
    mine = ("run", "hub_run", "interrupted", "runs")
    ignored = shutil.ignore_patterns(*mine)
    folder = shutil.copytree(checkout, tmp_path / "checkout", symlinks=True, ignore=ignored)
    return Reader(hub, folder, environment)


# --- The tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "snippet",
    [
        pytest.param(snippet, marks=[pytest.mark.second_lane] if "train.py" in snippet.text else [])
        for snippet in snippets((REPOSITORY / "README.md").read_text())
    ],
    ids=str,
)
def test_readme(snippet: Snippet, reader: Reader, request: pytest.FixtureRequest) -> None:
    if "demo/run" in snippet.text:
        shutil.copytree(request.getfixturevalue("run"), reader.folder / "demo" / "run")
    if "runs/mine" in snippet.text:
        name = "interrupted" if "--resume" in snippet.text else "run"
        shutil.copytree(request.getfixturevalue(name), reader.folder / "runs" / "mine")
    if "runs/reference" in snippet.text:
        shutil.copytree(request.getfixturevalue("run"), reader.folder / "runs" / "reference")
    reader.run(snippet)  # asserts the status, and what the command is to leave behind


@pytest.mark.second_lane
@pytest.mark.parametrize(
    ("name", "reproduce"),
    [
        ("hub_run", "hf-ela reproduce user/hub_run@v1.0.0"),
        ("run", "hf-ela reproduce user/run@v1.0.0 --data FOLDER"),
    ],
)
def test_card_of_a_release(
    name: str, reproduce: str, reader: Reader, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = request.getfixturevalue(name)
    push = f"python push_to_hub.py {shlex.quote(str(run))} user/{name} --tag v1.0.0"
    reader.run(Snippet(0, "sh", push))
    card = reader.hub.repositories["models", f"user/{name}"].find("v1.0.0").files["README.md"]

    # A stranger with an empty cache and without a token takes hf_ela from the release.
    site = reader.folder / "site"
    paths = {"PATH": f"{site / 'bin'}{os.pathsep}{reader.environment['PATH']}"}
    paths |= {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "", "PYTHONPATH": str(site)}
    stranger = Reader(reader.hub, reader.folder, reader.environment | paths)
    install, use, again = snippets(card.decode())
    stranger.run(install)
    where = stranger.run(Snippet(0, "python", "import hf_ela\nhf_ela.__file__"))
    assert Path(ast.literal_eval(where)).is_relative_to(site)
    assert use.promise
    stranger.run(use)
    assert again.text == reproduce
    stranger.run(again)


def test_card_of_a_run(reader: Reader, run: Path) -> None:
    folder = shutil.copytree(run, reader.folder / "run")
    for name in ("painting.jpg", "FOLDER"):
        (folder / name).symlink_to(reader.folder / name)
    reader = Reader(reader.hub, folder, reader.environment)
    use, again = snippets((folder / "README.md").read_text())
    assert use.promise
    reader.run(use)
    assert again.text == "hf-ela reproduce . --data FOLDER"
    reader.run(again)


@pytest.mark.parametrize(
    "block",
    [
        "```sh\nhf-ela ela --gian max painting.jpg\n```",
        "```python\nfrom hf_ela import ElaClasifier\n```",
        '```python\n[dict(label="fake")]\n# [{"label": "fake", "score": 0.9}]\n```',
        "```bash\ntrue\n```",
        "```\nhf-ela ela painting.jpg\n```",
    ],
)
def test_a_wrong_snippet_is_seen(block: str, reader: Reader) -> None:
    (snippet,) = snippets(block)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        reader.run(snippet)
