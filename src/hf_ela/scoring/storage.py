"""File systems that pyarrow knows, and which column of a Parquet file holds pictures."""

import pyarrow
from pyarrow import fs

from hf_ela.errors import DataError


def open_address(address: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a local path or an address, and the path in it.

    Raises:
        DataError: pyarrow does not know it, or cannot reach it.
    """
    if "://" not in address:
        return fs.LocalFileSystem(), address
    try:
        files, path = fs.FileSystem.from_uri(address)
    except (OSError, ValueError, ImportError) as error:  # ArrowInvalid is a ValueError
        raise DataError(
            f"{address} cannot be opened: {error!s:.300}. Check the address, the network and the "
            "credentials."
        ) from error
    return files, path


def read_through(files: fs.FileSystem, path: str) -> None:
    """Read all of a file, which raises where not the file is at fault."""
    with files.open_input_stream(path) as stream:
        while stream.read(2**24):
            pass


def image_column(schema: pyarrow.Schema) -> str | None:
    """Return the column that holds pictures: ``{"bytes", "path"}`` of `datasets`, or binary.

    Of several, it is the one named ``image``, or the first, those of `datasets` before others. Text
    is none: it would be taken for the path of a file.
    """
    kinds = pyarrow.types
    stored = [
        field.name
        for field in schema
        if kinds.is_struct(field.type)
        and (index := field.type.get_field_index("bytes")) >= 0
        and (_is_binary(kind := field.type.field(index).type) or kinds.is_null(kind))
    ]
    stored += [field.name for field in schema if _is_binary(field.type)]
    if not stored and "image" in schema.names and kinds.is_null(schema.field("image").type):
        return "image"  # all cells are empty
    return "image" if "image" in stored else next(iter(stored), None)


def _is_binary(kind: pyarrow.DataType) -> bool:
    kinds = pyarrow.types
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    tests = (kinds.is_binary, kinds.is_large_binary, kinds.is_binary_view)
    return any(test(kind) for test in tests)


def is_parquet(name: str) -> bool:
    """Return whether a file is Parquet by its name."""
    return name.lower().endswith(".parquet")
