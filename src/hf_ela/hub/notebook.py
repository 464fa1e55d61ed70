"""Make the notebook of a release, which the Colab and Kaggle buttons of the Hub open.

`make_notebook` is pure, as `hf_ela.hub.card.make_card` is. The text is ``assets/notebook.md``: each
block of Python in it becomes a cell of code, and what lies between becomes a cell of text.
"""

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from hf_ela._text import LABEL_WORDS, synthetic_notice
from hf_ela.hub.card import escape
from hf_ela.hub.package import check_names, install_release

NOTEBOOK = "notebook.ipynb"
"""The name that the Hub looks for."""
_CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def make_notebook(run: Mapping[str, Any], *, repo_id: str, revision: str | None = None) -> bytes:
    """Return the notebook of a release, in version 4.5 of the format.

    Args:
        run: What ``run.json`` holds.
        repo_id: ``user/name`` of the release.
        revision: Its tag or branch; main by default.

    Raises:
        CardError: A name is not valid.
    """
    check_names(repo_id, revision)
    sample = run["samples"][-1]
    environment = Environment(  # noqa: S701  (no HTML; the names are checked)
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(
        (files("hf_ela.hub") / "assets" / "notebook.md").read_text("utf-8")
    ).render(
        repo_id=repo_id,
        pinned=f"{repo_id}@{revision}" if revision else repo_id,
        at_revision=f', revision="{revision}"' if revision else "",
        install=install_release(repo_id, revision, "" if run.get("onnx") else "keras"),
        notice=synthetic_notice(run["data"]),
        sample=sample["file"],
        title=escape(sample["title"]),
        truth=LABEL_WORDS[sample["label"]],
    )
    cells: list[dict[str, Any]] = []
    for number, part in enumerate(_CODE.split(text)):
        if source := part.strip():
            kind = "code" if number % 2 else "markdown"
            cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
            if kind == "code":
                cell |= {"execution_count": None, "outputs": []}
            cells.append(cell | {"source": source.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
