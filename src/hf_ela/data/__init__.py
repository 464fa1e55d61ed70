"""Data: from a dataset to pinned, cached and split rows."""

from typing import TYPE_CHECKING

from hf_ela._lazy import lazily

__all__ = ["DataOptions", "prepare"]

if TYPE_CHECKING:
    from hf_ela.data.loading import DataOptions
    from hf_ela.data.preparation import prepare

__getattr__ = lazily(__name__, {"DataOptions": "loading", "prepare": "preparation"})
