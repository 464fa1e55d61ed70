"""Public names of a package that import their module on first use."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from hf_ela.errors import needs_extra


def lazily(package: str, homes: Mapping[str, str], *, extra: str = "train") -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

    Args:
        package: Name of the package.
        homes: The module below it that each public name comes from.
        extra: The extra that the modules require, named if one of its packages is missing.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with needs_extra(extra, f"`{package}.{name}`"):
            module = import_module(f"{package}.{homes[name]}")
        return getattr(module, name)

    return get
