"""What a reproduction gave beside what was recorded: two ``run.json`` in, rows out. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_ela.terminal import printable

__all__ = ["Difference", "Reproduction", "Row", "compare", "differences", "report"]

Run = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A metric of the test split, recorded and reproduced.

    Attributes:
        protocol: ``as_is`` or ``aligned``.
        metric: Its name.
        recorded: ``{"value", "low", "high", "n"}``, or None where it is missing.
        reproduced: As `recorded`.
        inside: Whether the reproduced value lies in the recorded interval, both ends included;
            a value that is undefined or missing on both sides does.
    """

    protocol: str
    metric: str
    recorded: dict[str, Any] | None
    reproduced: dict[str, Any] | None
    inside: bool


@dataclass(frozen=True)
class Difference:
    """Something that was not the same in both trainings."""

    what: str
    recorded: Any
    reproduced: Any


@dataclass(frozen=True)
class Reproduction:
    """What came out; also the content of ``reproduction.json``.

    Attributes:
        source: The repository, or the folder's name.
        revision: The commit of the release, or None for a folder.
        limit: The limit where the data was cut down for a quick check.
        rows: All metrics.
        differences: What was not the same.
        inside: Whether all rows are inside.
    """

    source: str
    revision: str | None
    limit: int | None
    rows: list[Row]
    differences: list[Difference]
    inside: bool


def compare(recorded: Run, new: Run) -> list[Row]:
    """Return a row for each test metric that one of two ``run.json`` has, under each protocol."""
    then, now = recorded["evaluation"]["test"], new["evaluation"]["test"]
    return [
        _row(protocol, metric, then.get(protocol, {}), now.get(protocol, {}))
        for protocol in _keys(then, now)
        for metric in _keys(then.get(protocol, {}), now.get(protocol, {}))
        if metric != "confusion"
    ]


def _row(protocol: str, metric: str, then: Run, now: Run) -> Row:
    recorded, reproduced = then.get(metric), now.get(metric)
    if recorded is None or reproduced is None:
        inside = False
    elif recorded["value"] is None or reproduced["value"] is None:
        inside = recorded["value"] is reproduced["value"]
    else:
        inside = recorded["low"] <= reproduced["value"] <= recorded["high"]
    return Row(protocol, metric, recorded, reproduced, inside)


def differences(recorded: Run, new: Run) -> list[Difference]:
    """Return what differs between two ``run.json`` of what decides the figures."""
    then, now = _conditions(recorded), _conditions(new)
    return [
        Difference(what, then.get(what), now.get(what))
        for what in _keys(then, now)
        if then.get(what) != now.get(what)
    ]


def _conditions(run: Run) -> dict[str, Any]:
    """Return data and environment as names with plain values."""
    data, environment = run["data"], run["environment"]
    groups = data["groups"]
    return {
        "dataset": data["id"],
        "dataset commit": data["revision"],
        "dataset conversion": data["conversion"],
        "dataset fingerprint": data["fingerprint"],
        "limit": data["limit"],
        "groups": groups and groups["sha256"],
        "images refused": len(data["rejected"]),
        **{f"images {split}": counts["n"] for split, counts in data["splits"].items()},
        **{key: value for key, value in environment.items() if not isinstance(value, Mapping)},
        **{f"package {name}": value for name, value in environment["packages"].items()},
        **{f"pixels {name}": value for name, value in environment["pixels"].items()},
    }


def _keys(*mappings: Run) -> list[str]:
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def report(result: Reproduction) -> str:
    """Return the comparison as lines for a terminal."""
    lines = ["", f"{'Test metric':32}{'recorded':24}{'reproduced':12}"]
    for row in result.rows:
        name = printable(f"{row.protocol.replace('_', '-')} {row.metric}")
        interval, value = _cell(row.recorded, interval=True), _cell(row.reproduced)
        lines.append(f"{name:32}{interval:24}{value:12}{'inside' if row.inside else 'OUTSIDE'}")
    lines += ["", "What differs:" if result.differences else "Data and environment are the same."]
    for found in result.differences:
        lines.append(printable(f"  {found.what}: {found.recorded}, now {found.reproduced}"))
    outside = sum(not row.inside for row in result.rows)
    if result.limit:
        verdict = (
            f"A QUICK CHECK (--limit {result.limit}), whose figures need not fall inside: "
            f"{outside} of {len(result.rows)} lie outside their"
        )
    elif outside:
        verdict = f"NOT REPRODUCED: {outside} of {len(result.rows)} figures lie outside their"
    else:
        verdict = f"REPRODUCED: all {len(result.rows)} figures lie inside their"
    lines += ["", f"{verdict} recorded 95 % interval."]
    return "\n".join(lines)


def _cell(cell: Mapping[str, Any] | None, *, interval: bool = False) -> str:
    if cell is None:
        return "missing"
    if cell["value"] is None:
        return "undefined"
    text = f"{cell['value']:.3f}"
    return f"{text} [{cell['low']:.3f}, {cell['high']:.3f}]" if interval else text
