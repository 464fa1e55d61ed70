"""The notebook of a release, run cell by cell from a Hub over loopback."""

import ast
import json
import re
import sys
from typing import Any

import pytest

from hf_ela import ElaClassifier
from hf_ela._text import SYNTHETIC_NOTICE
from hf_ela.cli import _parser
from hf_ela.errors import CardError
from hf_ela.hub.notebook import make_notebook
from hf_ela.hub.package import SAMPLES

SHOWN = {"samples": [{"file": "real-pond.jpg", "title": "Pond", "label": "real"}]}
RUN = {"data": {"synthetic": False}, "onnx": {"opset": 18}, **SHOWN}


def sources(notebook: bytes, kind: str) -> list[str]:
    cells = json.loads(notebook)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_it_runs_from_top_to_bottom(hub, tiny_run, command, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    command("push", tiny_run, "tester/book", "--tag", "v1.0.0")
    monkeypatch.delenv("HF_TOKEN")  # a stranger's
    release = hub.repositories["models", "tester/book"].find("v1.0.0")
    pip, *cells = sources(release.files["notebook.ipynb"], "code")
    place = "https://huggingface.co/tester/book/resolve/v1.0.0/"
    [wheel] = re.findall(rf'^%pip install "hf-ela @ {place}(\S+)"$', pip)
    assert wheel in release.files

    shown: list[Any] = []
    monkeypatch.setattr(sys, "displayhook", shown.append)
    names: dict[str, object] = {}
    for cell in cells:
        *statements, last = ast.parse(cell).body
        exec(compile(ast.Module(statements, []), "<cell>", "exec"), names)
        exec(compile(ast.Interactive([last]), "<cell>", "single"), names)  # shows its value
    model, picture, answer, evidence = shown
    assert model.revision == release.sha
    assert picture._repr_png_()  # as a notebook draws it
    sample = tiny_run / "samples" / list(SAMPLES)[-1]
    assert answer == ElaClassifier.from_pretrained(tiny_run).predict(sample, abstain=True)
    assert evidence._repr_png_()


def test_it_is_a_notebook_of_format_4_5() -> None:
    notebook = json.loads(make_notebook(RUN, repo_id="user/repo"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len({*ids}) == len(ids)
    for cell in notebook["cells"]:
        more = {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | more


@pytest.mark.parametrize("revision", [None, "v1.0.0"])
def test_the_commands_it_tells_exist(revision) -> None:
    text = "\n".join(
        sources(make_notebook(RUN, repo_id="user/repo", revision=revision), "markdown")
    )
    commands = re.findall(r"`!hf-ela (.+?)`", text)
    assert len(commands) == 2
    for words in commands:
        model = _parser().parse_args(words.split()).model
        assert model == ("user/repo@v1.0.0" if revision else "user/repo")


def test_it_says_what_the_model_is_no_good_for_and_needs() -> None:
    synthetic = {"data": {"synthetic": True}, **SHOWN}
    notebook = make_notebook(synthetic, repo_id="user/repo")
    assert SYNTHETIC_NOTICE in sources(notebook, "markdown")[0]
    assert '"hf-ela[keras] @ ' in sources(notebook, "code")[0]  # it has no ONNX
    assert SYNTHETIC_NOTICE not in sources(make_notebook(RUN, repo_id="user/repo"), "markdown")[0]


@pytest.mark.parametrize("names", [('user/re"po', None), ("user/repo", 'v1"),__import__("os")')])
def test_a_name_is_not_code(names) -> None:
    with pytest.raises(CardError, match="must be"):
        make_notebook(RUN, repo_id=names[0], revision=names[1])
