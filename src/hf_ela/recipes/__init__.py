"""Recipes: what to compute, validated, read from TOML."""

from typing import TYPE_CHECKING

from hf_ela._lazy import lazily

__all__ = ["Recipe", "load_recipe"]

if TYPE_CHECKING:
    from hf_ela.recipes.loading import load_recipe
    from hf_ela.recipes.schema import Recipe

__getattr__ = lazily(__name__, {"Recipe": "schema", "load_recipe": "loading"})
