"""Answers of `hf-ela predict` in a file: kept as they come, written whole at the end.

Until then they lie in `NAME.part`, a line of JSON each. The same command after an interruption
scores only what is not there yet.
"""

import csv
import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files as resources
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from hf_ela._files import named_if_full, whole_file
from hf_ela._terminal import printable, progress_bar
from hf_ela.cli.answers import Counts, noted, outcome
from hf_ela.errors import ImageError, RunError

THUMBNAIL = 160
"""Longest side in pixels of a picture in a page."""
COLUMNS = ("file", "answer", "leans", "fake", "note", "error")


class Report:
    """A file of answers, begun now or by an earlier command.

    Attributes:
        rows: What is scored, by file, as `--json` prints it.
    """

    def __init__(self, path: Path, made_by: Mapping[str, Any]) -> None:
        """Take up what an interrupted command left.

        Args:
            path: Ends in ``.csv``, ``.jsonl``, ``.parquet`` or ``.html``.
            made_by: Model and threshold, which all answers must share; as JSON.

        Raises:
            RunError: The path exists, has another ending, or was begun with another model; or what
                writes Parquet is not installed.
        """
        if path.suffix.lower() not in _WRITERS:
            known = ", ".join(_WRITERS)
            raise RunError(f"`out` must end in one of {known}. Received: {path}.")
        if path.suffix.lower() == ".parquet" and not find_spec("pyarrow"):
            raise RunError(
                "Parquet requires the `train` extra (module 'pyarrow' is missing). Name a .csv or "
                ".jsonl, or install it."
            )
        if path.exists():
            raise RunError(f"{path} exists. Choose another name, or delete it.")
        self.path, self._part = path, path.with_name(f"{path.name}.part")
        self.rows: dict[str, dict[str, Any]] = {}
        self._made_by = json.dumps(made_by)
        if not self._part.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._part.write_text(f"{self._made_by}\n", "utf-8")
            return
        made, *lines = self._part.read_text("utf-8").splitlines(keepends=True) or [self._made_by]
        if made.strip() != self._made_by:
            raise RunError(
                f"{self._part} was begun with another model or with other options. Use those, or "
                "delete the file to begin anew."
            )
        whole = [line for line in lines if line.endswith("\n")]  # the last may be cut off
        self._part.write_text("".join([made, *whole]), "utf-8")
        self.rows = {row["file"]: row for row in map(json.loads, whole)}

    def kept(self, results: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield answers, each as it is safe on the disk."""
        with named_if_full(self._part), self._part.open("a", encoding="utf-8") as part:
            for row in results:
                part.write(f"{json.dumps(row)}\n")
                part.flush()
                self.rows[row["file"]] = row
                yield row

    def write(self, files: Sequence[str], words: Sequence[str]) -> Counts:
        """Write the file, the answers in the order of `files`, and count them.

        Args:
            files: What was asked about.
            words: Lines that say which model answered, and what its answers mean.
        """
        rows = [self.rows[file] for file in files]
        counts = Counts()
        counts.update(map(outcome, rows))
        with whole_file(self.path) as temporary:
            _WRITERS[self.path.suffix.lower()](temporary, rows, [counts.words(), *words])
        self._part.unlink()
        return counts


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of an answer; what no file can hold of a name is escaped."""
    error = row.get("error", {}).get("message")
    return {
        "file": printable(row["file"]),
        "answer": outcome(row),
        "leans": None if error else row["label"],
        "fake": None if error else row["probability"],
        "note": "" if error else printable(noted(row)),
        "error": error and printable(error),
    }


def _write_lines(path: Path, rows: Sequence[dict[str, Any]], words: Sequence[str]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def _write_csv(path: Path, rows: Sequence[dict[str, Any]], words: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(map(_not_formulas, map(_flat, rows)))


def _not_formulas(row: Mapping[str, Any]) -> dict[str, Any]:
    """Quote texts from outside that a spreadsheet would compute."""
    return {
        name: f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
        for name, value in row.items()
    }


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]], words: Sequence[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    texts = {name: pyarrow.float64() if name == "fake" else pyarrow.string() for name in COLUMNS}
    table = pyarrow.Table.from_pylist([*map(_flat, rows)], pyarrow.schema(texts))
    parquet.write_table(table, path)


def _write_page(path: Path, rows: Sequence[dict[str, Any]], words: Sequence[str]) -> None:
    """Write a page that needs nothing beside it."""
    from jinja2 import Environment

    template = (resources("hf_ela") / "cli" / "report.html").read_text("utf-8")
    pictures = progress_bar((_thumbnail(row) for row in rows), "Drawing", len(rows))
    shown = [{**_flat(row), "picture": found} for row, found in zip(rows, pictures, strict=True)]
    page = Environment(autoescape=True).from_string(template)
    path.write_text(page.render(rows=shown, words=words), "utf-8")


def _thumbnail(row: Mapping[str, Any]) -> str:
    """Return a small copy of a picture as a data address, or "" for what cannot be read."""
    from hf_ela.images.loading import load_image

    try:
        pixels = load_image(row["file"]).pixels
    except ImageError:
        return ""
    pixels.thumbnail((THUMBNAIL, THUMBNAIL))
    file = BytesIO()
    pixels.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"


_WRITERS: dict[str, Callable[[Path, Sequence[dict[str, Any]], Sequence[str]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_lines,
    ".parquet": _write_parquet,
    ".html": _write_page,
}
