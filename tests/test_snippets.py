"""Every command and program that the documents and a model card show works, as a reader types it.

A reader has a checkout, the files that the text speaks of, and the Hub on loopback. Quick commands
run in the default lane, trainings in the second one; what is only parsed stands in `PARSED`.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from conftest import REPOSITORY, TINY, files_of, linked_copy, python_path
from hf_ela.cli import _parser, main
from hf_ela.hub.datasets import DEFAULT_DATASET
from jobs import resolved

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# In a block without a language, which is for what a program prints.
FORGOTTEN = re.compile(r"^(\$|(from|git|hf|hf-ela|import|make|pip|python) )", re.MULTILINE)
ANSWER = re.compile(r"\[\{.*?\}\]")
BRIEF = ["training.epochs=1", "augmentation.views=1", "input.grid=1"]
SMALL = [*BRIEF, "input.size=96", "validation.fraction=0.25"]
QUICK = ("predict", "ela", "push")
ELSEWHERE = ("serve", "score")  # tests/test_serve.py, tests/test_cluster.py
# An interrupted run is the matter of test_training.py, the published network takes minutes.
PARSED = re.compile(r"--resume|--recipe reference|--address|\b(FOLDER|CSV|NAME)\b")
SCRIPTS = {"train.py": "train", "push_to_hub.py": "push"}
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]


@dataclass(frozen=True)
class Snippet:
    """A command line, or a program in Python.

    Attributes:
        promise: The answer that the text shows, in the block or after it.
    """

    place: str
    language: str
    text: str
    promise: str | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.text.splitlines()[0].partition(' #')[0].rstrip()}"

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def snippets(document: str, name: str = "") -> list[Snippet]:
    """Find all that a document shows to be run."""
    found = []
    for token in MarkdownIt().parse(document):
        if token.type not in ("fence", "code_block"):
            continue
        assert token.info in ("", "sh", "python", "json"), f"{name}: no test runs {token.info!r}"
        line = token.map[0] + 1
        if token.info == "sh":
            lines = re.sub(r"\\\n", " ", token.content).splitlines()
            found += [Snippet(name, "sh", text) for text in lines if text.strip()]
        elif token.info == "python":
            answer = ANSWER.search("\n".join(document.splitlines()[line:]))
            found.append(Snippet(name, "python", token.content, answer and answer[0]))
        else:
            assert token.info or not FORGOTTEN.search(token.content), token.content
    return found


ALL = [s for path in DOCUMENTS for s in snippets(path.read_text("utf-8"), path.name)]
COMMANDS = {  # each once, wherever it is shown
    tuple(s.words): s
    for s in ALL
    if s.language == "sh" and s.words[0] == "hf-ela" and not PARSED.search(s.text)
}.values()
# A training of seconds for each way to type it: folders of other names are no other way.
FOLDERS = re.compile(r"(--data|--out) \S+")
SLOW = {
    FOLDERS.sub(r"\1", " ".join(s.words)): s
    for s in COMMANDS
    if s.words[1] not in QUICK + ELSEWHERE
}.values()
PROGRAMS = [s for s in ALL if s.language == "python"]


def is_heavy(program: Snippet) -> bool:
    return "train(" in program.text or "push_to_hub" in program.text


def git(*words: str) -> bool:
    """Whether a command of git succeeds in this repository."""
    done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, check=False)
    return done.returncode == 0


def exists(words: list[str]) -> bool:
    """Return whether a command of a document exists; options that do not exist end the parser."""
    match words:
        case ["hf-ela", *rest]:
            return bool(_parser().parse_args(rest))
        case ["python", "train.py" | "push_to_hub.py" as script, *rest]:
            return bool(_parser().parse_args([SCRIPTS[script], *rest]))
        case ["python", script, *_]:
            return (REPOSITORY / script).is_file()
        case ["srun", "hf-ela", *rest]:
            return exists(["hf-ela", *rest])
        case ["sbatch" | "srun", *_, job]:
            return exists(shlex.split(re.sub(r"\$\w+", "1", job)))
        case ["KERAS_BACKEND=jax", *rest]:
            return exists(rest)
        case ["make", target]:
            return bool(re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.M))
        case ["pip", "install", *rest]:
            named = re.findall(r"\[([\w,]+)\]", " ".join(rest))  # pip only warns of unknown ones
            known = PROJECT["optional-dependencies"].keys()
            return all(set(extras.split(",")) <= known for extras in named)
        case ["curl", address, *_]:
            return address.startswith("localhost:7861")  # `hf-ela serve`
        case ["hf", "jobs", "uv", "run", *rest]:
            is_right = resolved(words)["script"] == "hf-ela"
            return is_right and exists(rest[rest.index("hf-ela") :])
        case ["git", "checkout" | "show", name]:
            tag = name.partition(":")[0]
            there = git("rev-parse", "--verify", "--quiet", tag)  # a shallow checkout has no tags
            return tag == "experiments-1" and (not there or git("cat-file", "-e", name))
        case _:
            return words == ["hf", "auth", "login"]


def run_program(text: str, names: dict[str, object] | None = None) -> None:
    """Do what the interpreter does at its prompt: print the value of each expression."""
    scope = {} if names is None else names
    for statement in ast.parse(text).body:
        exec(compile(ast.Interactive([statement]), "<snippet>", "single"), scope)


def shape(answer: list[dict[str, object]]) -> list[object]:
    """What two predictions have in common, whatever the picture."""
    kinds = [{key: type(value) for key, value in entry.items()} for entry in answer]
    return [kinds, sorted(str(entry["label"]) for entry in answer)]


Run = Callable[[list[str]], str]


@pytest.fixture
def run(hub, tiny, tiny_groups, tiny_run, pictures, tmp_path, monkeypatch, capsys) -> Run:
    """Run a command in the folder of a reader; `user/repo` on the Hub is the reader's."""
    hub.organizations = ("user",)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    folder = tmp_path / "reader"
    (folder / "scans").mkdir(parents=True)
    for name in ("painting.jpg", "picture.jpg", "scans/a.jpg", "scans/b.jpg"):
        shutil.copy(pictures[-1], folder / name)
    (folder / "my").mkdir()
    (folder / "my" / "folder").symlink_to(tiny)
    (folder / "my" / "groups.csv").symlink_to(tiny_groups)
    (folder / "my_art").symlink_to(tiny)
    for name in ("mine", "reference", "tuned", "anew"):
        linked_copy(tiny_run, folder / "runs" / name)
    monkeypatch.chdir(folder)

    def call(words: list[str]) -> str:
        text = " ".join(words)
        if "user/repo@v1.0.0" in text:
            assert main(["push", str(tiny_run), "user/repo", "--tag", "v1.0.0"]) == 0
        images = files_of(tiny)
        if "user/dataset" in text:
            named = {k.replace("fake", "ai").replace("real", "human"): images[k] for k in images}
            commit = hub.add_dataset("user/dataset", named).find("main").sha
            words = [word.replace("COMMIT", commit) for word in words]
        if words[1] in ("train", "reproduce") and "--data" not in words:
            hub.add_dataset(DEFAULT_DATASET, images)
            if words[1] == "reproduce":  # of a release whose data is local
                words = [*words, "--data", "my/folder", "--groups", "my/groups.csv"]
        if words[1] == "train":
            settings = BRIEF if "--from" in words else TINY if "scratch" in words else SMALL
            words += [word for setting in settings for word in ("--set", setting)]
            if "--out" in words:
                shutil.rmtree(words[words.index("--out") + 1])
        if words[1] == "reproduce":
            words = [*words, "--out", "again"]
        capsys.readouterr()
        status = main(words[1:])
        out, err = capsys.readouterr()
        # A few images of a test split need not lie within the interval of all.
        assert status == 0 or (words[1] == "reproduce" and "--limit" in words), err
        return out

    return call


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_exists(document) -> None:
    found = snippets(document.read_text("utf-8"), document.name)
    assert not [one for one in found if one.language == "sh" and not exists(one.words)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_line_of_a_scripts_usage_has_the_options_of_its_command(script) -> None:
    usage = ast.get_docstring(ast.parse((REPOSITORY / script).read_text("utf-8")))
    lines = [line for line in usage.splitlines() if line.startswith(f"    python {script}")]
    assert len(lines) >= 4
    for line in lines:
        assert exists(shlex.split(line, comments=True))


@pytest.mark.parametrize("snippet", [s for s in COMMANDS if s.words[1] in QUICK], ids=str)
def test_quick_commands(snippet, run, hub) -> None:
    out = run(snippet.words)
    if "--json" in snippet.words:
        assert {*json.loads(out.splitlines()[0])["scores"]} == {"fake", "real"}
    if "--dry-run" in snippet.words:
        assert "nothing was sent" in out
    elif "push" in snippet.words:
        assert hub.repositories["models", "user/repo"].find("v1.0.0")


@pytest.mark.second_lane
@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("snippet", SLOW, ids=str)
def test_slow_commands(snippet, run) -> None:
    run(snippet.words)
    if snippet.words[1] == "train" and "--out" in snippet.words:
        assert Path(snippet.words[snippet.words.index("--out") + 1], "run.json").is_file()


@pytest.mark.parametrize(
    "program",
    [pytest.param(s, marks=[pytest.mark.second_lane] if is_heavy(s) else []) for s in PROGRAMS],
    ids=str,
)
def test_programs(program, run, capsys) -> None:
    names: dict[str, object] = {}
    if "classifier" in program.text:
        run_program("from hf_ela import ElaClassifier", names)
        run_program("classifier = ElaClassifier.from_pretrained('runs/mine')", names)
    if "train(" in program.text:
        run_program("from hf_ela.data import DataOptions\nfrom hf_ela.training import train", names)
        run_program("options = DataOptions('my/folder', groups='my/groups.csv')", names)
        for name in ("mine", "tuned"):
            shutil.rmtree(f"runs/{name}")
        names["SMALL"] = SMALL
    capsys.readouterr()
    text = program.text.replace('["training.epochs=3"]', "SMALL")
    run_program(text, names)
    if program.promise:
        out = capsys.readouterr().out
        assert shape(ast.literal_eval(out)) == shape(json.loads(program.promise))


def test_card_of_a_run(run, monkeypatch, capsys) -> None:
    use, install, again = snippets(Path("runs/mine/README.md").read_text("utf-8"))
    monkeypatch.chdir("runs/mine")
    shutil.copy("../../painting.jpg", ".")
    capsys.readouterr()
    run_program(use.text)
    assert use.promise
    assert shape(ast.literal_eval(capsys.readouterr().out)) == shape(json.loads(use.promise))
    assert exists(install.words)
    assert again.text == "hf-ela reproduce . --data FOLDER --groups CSV"
    assert exists(again.words)


@pytest.mark.second_lane
def test_card_of_a_release(run, hub, tmp_path) -> None:
    """A stranger with an empty cache and without a token takes hf_ela from the release."""
    run(["hf-ela", "push", "runs/mine", "user/repo", "--tag", "v1.0.0"])
    card = hub.repositories["models", "user/repo"].find("v1.0.0").files["README.md"].decode()
    install, use, with_training, again = snippets(card)
    assert exists(with_training.words)
    assert again.text == "hf-ela reproduce user/repo@v1.0.0 --data FOLDER --groups CSV"
    environment = os.environ | {
        "HF_TOKEN": "",
        "PYTHONPATH": python_path("site"),
        "PYTHONWARNINGS": "ignore",
    }

    def stranger(*words: str, text: str = "") -> str:
        done = subprocess.run(
            [sys.executable, *words],
            env=environment | {"HF_HUB_CACHE": str(tmp_path / "stranger")},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", "site"]
    wheel = install.words[-1].replace("https://huggingface.co", hub.endpoint)
    stranger(*options, wheel)
    where = stranger("-c", "import hf_ela; print(hf_ela.__file__)")
    assert Path(where).is_relative_to(Path("site").absolute())
    assert use.promise
    last = use.text.splitlines()[-1]
    out = stranger("-c", use.text.replace(last, f"print({last})"))
    assert shape(ast.literal_eval(out)) == shape(json.loads(use.promise))
    words = [word.replace("FOLDER", "my/folder") for word in again.words[1:]]
    out = stranger("-m", "hf_ela", *words, "--groups", "my/groups.csv", "--out", "again")
    assert "REPRODUCED" in out


@pytest.mark.parametrize(
    "block",
    [
        "```sh\nhf-ela ela --gian max painting.jpg\n```",
        "```sh\nmake everything\n```",
        '```sh\npip install ".[trian]"\n```',
        "```sh\npython benchmarks/none.py\n```",
        "```sh\npython train.py --recpie reference\n```",
        "```sh\npython push_to_hub.py runs/mine\n```",
        "```sh\nsbatch --wrap 'hf-ela predict scans/ --sharp 1/2'\n```",
        "```sh\nhf jobs uv run --flavour t4-small hf-ela train\n```",
        "```sh\ngit checkout experiments-2\n```",
        "```sh\ngit chekout experiments-1\n```",
        "```bash\ntrue\n```",
        "```\nhf-ela ela painting.jpg\n```",
    ],
)
def test_a_wrong_snippet_is_seen(block) -> None:
    def check() -> None:
        for snippet in snippets(block):
            assert exists(snippet.words)

    with pytest.raises((AssertionError, SystemExit, pytest.fail.Exception)):
        check()
