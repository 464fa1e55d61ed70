"""The YAML at the head of a model card, edited key by key.

The keys in `GENERATED` are written anew with every card. All others are a person's, and their lines
stay as they are, with comments and quotes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from hf_ela.errors import CardError

__all__ = ["GENERATED", "merge_metadata", "read_metadata", "split_card"]

GENERATED = (
    "library_name",
    "pipeline_tag",
    "datasets",
    "metrics",
    "widget",
    "co2_eq_emissions",
    "model-index",
)
_EMPTY_BLOCK = re.compile(r"\s*---(\r\n|\r|\n)---[ \t]*(\r\n|\r|\n|$)")
MOST_ALIASES = 16
"""In the front matter of a card; each may double what it stands for."""
_MEND = "Mend it, or have the card written anew (--replace, or --replace-card when pushing)."


def split_card(text: str) -> tuple[str, str]:
    """Return the YAML of a card, without its fences, and the text below; by the Hub's own rule."""
    text = text.removeprefix("\ufeff")
    if empty := _EMPTY_BLOCK.match(text):
        return "", text[empty.end() :]
    match = REGEX_YAML_BLOCK.search(text)
    return (match[2], text[match.end() :]) if match else ("", text)


def merge_metadata(
    previous: str, generated: Mapping[str, Any], defaults: Mapping[str, Any], eol: str
) -> str:
    """Return the YAML of a card with its generated keys renewed and the lines of others kept.

    Args:
        previous: The YAML before, without fences.
        generated: New values of the keys in `GENERATED`; those that are missing go.
        defaults: Values of a person's keys, used where `previous` has none; tags are added.
        eol: Line end of new lines.

    Raises:
        CardError: `previous` is no YAML that can be edited key by key.
    """
    # The last line's end belongs to the fence, but a text block of YAML ends with it.
    before, head, entries = _entries(_ended(previous, eol))
    wanted = {key: value for key, value in before.items() if key not in GENERATED}
    wanted |= {key: value for key, value in defaults.items() if key not in wanted}
    wanted["tags"] = _union(before.get("tags"), defaults.get("tags"))
    wanted |= generated
    lines = [head]
    for key, text in entries.items():
        if key in wanted and wanted[key] == before[key]:
            lines.append(text)
        else:
            new = _dump(key, wanted[key], eol) if key in wanted else ""
            lines.append(new + _comments_below(text))
    order = [*defaults, *GENERATED]
    missing = [key for key in order if key in wanted and key not in entries]
    lines += [_dump(key, wanted[key], eol) for key in missing]
    merged = "".join(_ended(line, eol) for line in lines)
    try:
        after = read_metadata(merged)
    except CardError:
        after = None
    if after != wanted:
        raise CardError(
            "The front matter of a card must allow single keys to be replaced. Received: one with "
            f"anchors, `...` or the like. {_MEND}"
        )
    return merged


def _ended(text: str, eol: str) -> str:
    return text if not text or text.endswith(("\n", "\r")) else text + eol


def _entries(text: str) -> tuple[dict[str, Any], str, dict[str, str]]:
    """Return the values, what stands before the first key, and each key's own lines."""
    values = read_metadata(text)
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return {}, text, {}
    pairs = node.value if isinstance(node, yaml.MappingNode) else []  # else it is a null
    keys = [key for key, _ in pairs]
    names = [key.value for key in keys]
    if (
        not pairs
        or node.flow_style
        or any(key.start_mark.column for key in keys)
        or set(names) != set(values)
    ):
        received = "keys of another kind"
    elif len(names) > len(set(names)):
        received = f"twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}"
    else:
        starts = [key.start_mark.index for key in keys]
        parts = zip(starts, [*starts[1:], len(text)], strict=True)
        lines = [text[start:end] for start, end in parts]
        return values, text[: starts[0]], dict(zip(names, lines, strict=True))
    raise CardError(
        "The front matter of a card must have lines `key: value`, each key once. Received: "
        f"{received}. {_MEND}"
    )


def read_metadata(text: str) -> dict[str, Any]:
    """Return the values of YAML without fences; none of them where there is no text."""
    try:
        events = yaml.parse(text, yaml.SafeLoader)
        if sum(isinstance(event, yaml.AliasEvent) for event in events) > MOST_ALIASES:
            raise ValueError(f"more than {MOST_ALIASES} aliases (*name)")
        values = yaml.safe_load(text)
        json.dumps(values, default=str, skipkeys=True)  # refuses what contains itself
    # ValueError, AttributeError: a date that does not exist; RecursionError: nested too deep.
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise CardError(
            f"The front matter of a card must be YAML. Received: {error}. {_MEND}"
        ) from error
    if not isinstance(values, dict | None):
        raise CardError(
            "The front matter of a card must have lines `key: value`. Received: "
            f"a {type(values).__name__}. {_MEND}"
        )
    return values or {}


def _union(before: Any, ours: Sequence[str] | None) -> Any:
    had = [before] if isinstance(before, str) else before or []
    if not isinstance(had, list):
        return before
    missing = [tag for tag in ours or () if tag not in had]
    return [*had, *missing] if missing else before


def _comments_below(text: str) -> str:
    """Comments and empty lines at the end of a key's lines: they belong to what follows."""
    lines = text.splitlines(keepends=True)
    number = len(lines)
    while number > 1 and (not lines[number - 1].strip() or lines[number - 1].startswith("#")):
        number -= 1
    return "".join(lines[number:])


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Puts text on one line: where it is folded, some of Unicode's line ends would be lost."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def _dump(key: str, value: Any, eol: str) -> str:
    text: str = yaml.dump(
        {key: value},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=1000,
        line_break=eol,
    )
    return text
