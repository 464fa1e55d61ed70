"""The folder of results: Parquet files written whole, and a record of what they are results of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pyarrow
from pyarrow import dataset, fs, parquet

from hf_ela._files import TEMPORARY, disk_full
from hf_ela.errors import RunError
from hf_ela.scoring.pictures import Part
from hf_ela.scoring.storage import open_address

SCHEMA = pyarrow.schema(
    [
        pyarrow.field("path", pyarrow.string(), nullable=False),
        ("fake", pyarrow.float64()),
        ("label", pyarrow.string()),
        ("uncertain", pyarrow.bool_()),
        ("error", pyarrow.string()),
    ]
)
"""Of the results. Without it, a file without refusals would have an `error` of type null."""
RECORD = "_hf_ela.json"
"""Says what results are of; readers of Parquet pass over a name that begins so."""


@dataclass(frozen=True)
class Results:
    """A folder, here or behind an address, of Parquet files with the columns of `SCHEMA`."""

    address: str

    def claim(self, made_of: Mapping[str, str]) -> None:
        """Take the folder for results of these pictures and this model, or go on with them.

        Raises:
            RunError: It holds something else, or cannot be written.
        """
        files, base = open_address(self.address)
        try:
            files.create_dir(base, recursive=True)
            if files.get_file_info(f"{base}/{RECORD}").type == fs.FileType.NotFound:
                if self._tables():
                    raise RunError(
                        f"`out` must be a new folder or one of `hf-ela score`. Received: "
                        f"{self.address}, which holds other Parquet. Choose another folder."
                    )
                self._put(RECORD, json.dumps(made_of, indent=2).encode())
                return
            with files.open_input_stream(f"{base}/{RECORD}") as stream:
                found = json.loads(stream.read())
        except (OSError, ValueError) as error:
            raise RunError(self.failed(error)) from error
        for what, compared in (("source", "source"), ("model", "digest")):
            if found.get(compared) != made_of[compared]:
                raise RunError(
                    f"{self.address} holds results of another {what}: {found.get(what)}. Received: "
                    f"{made_of[what]}. Choose another folder for `out`."
                )

    def failed(self, error: Exception) -> str:
        """Return what to say where the folder cannot be written."""
        if reason := disk_full(error):
            return f"{reason}: {self.address}. Free space, and repeat the command."
        return f"`out` cannot be written. Received: {self.address} ({error!s:.300})."

    def scored(self, paths: set[str], tables: set[str]) -> tuple[set[str], int]:
        """Return those of the paths that have a row, and how many refusals there are.

        Those of paths, or of rows of the Parquet files in `tables`, count.
        """
        found: set[str] = set()
        refused = 0
        if written := self._tables():
            files, _ = open_address(self.address)
            rows = dataset.dataset(written, SCHEMA, "parquet", filesystem=files)
            for batch in rows.to_batches(columns=["path", "error"]):
                found |= paths.intersection(batch.column("path").to_pylist())
                for path in (
                    batch.filter(dataset.field("error").is_valid()).column("path").to_pylist()
                ):
                    refused += path in paths or path.rpartition("#")[0] in tables
        return found, refused

    def write(self, part: Part, rows: list[dict[str, Any]]) -> None:
        """Write a part, whole or not at all."""
        name = sha256("\n".join(part.paths).encode()).hexdigest()[:32]
        content = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.Table.from_pylist(rows, SCHEMA), content)
        self._put(f"{name}.parquet", content.getvalue())

    def _put(self, name: str, content: bytes | pyarrow.Buffer) -> None:
        files, base = open_address(self.address)
        unfinished = f"{base}/{TEMPORARY}{uuid4().hex}"
        try:
            with files.open_output_stream(unfinished) as stream:
                stream.write(content)
            files.move(unfinished, f"{base}/{name}")
        except OSError:
            if files.get_file_info(unfinished).type != fs.FileType.NotFound:
                files.delete_file(unfinished)
            raise

    def _tables(self) -> list[str]:
        files, base = open_address(self.address)
        infos = files.get_file_info(fs.FileSelector(base))
        named = [info.path for info in infos if not info.base_name.startswith(".")]
        return sorted(path for path in named if path.endswith(".parquet"))
