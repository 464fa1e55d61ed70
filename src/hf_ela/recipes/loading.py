"""Recipes from TOML, with overrides; errors name the key and the nearest valid one."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hf_ela.errors import RecipeError
from hf_ela.recipes.schema import Recipe

DEFAULT_RECIPE = "transfer"
"""The recipe that trains where none is named; the packaged model is of it."""


def built_in_recipes() -> list[str]:
    """Return the names of the recipes in this package."""
    return sorted(
        Path(f.name).stem for f in files("hf_ela.recipes").iterdir() if f.name.endswith(".toml")
    )


def load_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        recipe: A built-in name (``transfer``, ``reference``) or the path of a TOML file.
        overrides: Texts such as ``"training.epochs=3"``, with values in TOML notation; ``none``
            omits a section, as in ``"augmentation=none"``; another ``kind`` empties its section.

    Raises:
        RecipeError: The recipe does not exist, is not TOML, or a key or value is not valid.
    """
    return with_overrides(_read(recipe), overrides, source=str(recipe))


def with_overrides(values: dict[str, Any], overrides: Sequence[str], source: str) -> Recipe:
    """Apply overrides to a mapping, which changes, and validate it; see `load_recipe`."""
    for override in overrides:
        _apply(values, override)
    return parse_recipe(values, source)


def parse_recipe(values: Mapping[str, Any], source: str) -> Recipe:
    """Validate a mapping as a recipe; `source` names it in messages.

    Raises:
        RecipeError: A key is unknown (the nearest valid one is named), missing, or its value
            is not valid.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors(include_url=False)]
        raise RecipeError(
            f"Recipe {source} is not valid:", *(f"  {problem}" for problem in problems)
        ) from None


def _read(recipe: str | Path) -> dict[str, Any]:
    if recipe in built_in_recipes():
        return tomllib.loads(files("hf_ela.recipes").joinpath(f"{recipe}.toml").read_text("utf-8"))
    path = Path(recipe)
    if not path.is_file():
        near = get_close_matches(str(recipe).casefold(), built_in_recipes(), n=1)
        hint = f" The nearest valid name is `{near[0]}`." if near else ""
        raise RecipeError(
            f"`recipe` must be {' or '.join(built_in_recipes())}, or the path of a TOML file. "
            f"Received: {recipe}, which is neither.{hint}"
        )
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"Recipe {path} is not valid TOML: {error}") from None


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise RecipeError(
            f"An override is written KEY=VALUE, as in training.epochs=3. Received: {override!r}."
        )
    if key not in known_keys():
        raise RecipeError(f"Override of an unknown key: {_unknown(key)}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # As people type it: a bare word is a string (network.kind=reference), and .5 a number.
        text = text.strip()
        value = float(text) if re.fullmatch(r"-?\.\d+", text) else text
    *sections, last = key.split(".")
    for section in sections:
        if values.get(section) is None:  # it is missing, or left out
            values[section] = {}
        inner = values[section]
        if not isinstance(inner, dict):
            raise RecipeError(
                f"`{section}` is a section. Received: {section}={inner!r} before {key}."
            )
        values = inner
    if last == "kind" and values.get("kind") != value:
        values.clear()  # the other keys of the section belong to the kind that it was
    values[last] = None if value == "none" else value


@cache
def known_keys() -> tuple[str, ...]:
    """Return every key that a recipe can have, in dotted notation."""

    def walk(schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        for choice in [*schema.get("oneOf", ()), *schema.get("anyOf", ())]:
            yield from walk(choice, prefix)
        for name, child in schema.get("properties", {}).items():
            yield prefix + name
            yield from walk(child, f"{prefix}{name}.")

    whole = Recipe.model_json_schema()
    definitions = whole.get("$defs", {})
    return tuple(dict.fromkeys(walk(whole, "")))


def _unknown(key: str) -> str:
    near = get_close_matches(key, known_keys(), n=1, cutoff=0.0)
    return f"`{key}`. The nearest valid one is `{near[0]}`."


def _explain(problem: Mapping[str, Any]) -> str:
    kinds = {"resize", "crops", "reference", "fully_convolutional"}  # tags of the unions
    key = ".".join(str(part) for part in problem["loc"] if part not in kinds)
    if problem["type"] == "extra_forbidden":
        if key in known_keys():
            return f"`{key}` does not belong to the kind of its section. Leave it out."
        return f"unknown key {_unknown(key)}"
    if problem["type"] == "missing":
        return f"`{key}` is missing."
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message
    return f"`{key}`: {message}. Received: {problem['input']!r}."
