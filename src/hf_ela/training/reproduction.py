"""Train again what a release records.

A release is data of somebody else: `hf_ela.run_record` validates what is taken from its
``run.json``, and nothing in it becomes a path. `hf_ela.training.reproduction` says what came out.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hf_ela._files import write_json
from hf_ela._text import printable
from hf_ela.errors import RunError, needs_extra
from hf_ela.hub.locate import repository_of
from hf_ela.run_record import Record, read_record

__all__ = ["Difference", "Reproduction", "Row", "compare", "differences", "report", "reproduce"]


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


def reproduce(
    source: str,
    out: str | Path,
    *,
    revision: str | None = None,
    data: str | None = None,
    groups: str | None = None,
    limit: int | None = None,
    streaming: bool | None = None,
    num_proc: int = 2,
    cache_dir: str | None = None,
    say: Callable[[str], None] = print,
) -> Reproduction:
    """Train again with the recorded recipe, seed and data, and compare the test metrics.

    Args:
        source: ``user/repo`` on the Hub, or the folder of a run or of a release.
        out: New folder for the run; it is kept. One with an interrupted reproduction goes on.
        revision: Branch, tag or commit of the repository.
        data: Local folder with the data, where the release was made from one.
        groups: CSV of groups, where the release was made with one.
        limit: Images of every split, for a quick check.
        streaming: As in `DataOptions`.
        num_proc: Processes that compute ELA.
        cache_dir: Where ELA is kept.
        say: Receives a line about each step.

    Raises:
        ModelError: There is no such release, or its record is not valid.
        RunError: The data is missing, training is not installed, or `out` is in the way.
        DataError: The data cannot be reached or used.
    """
    repo_id = repository_of(source, revision)
    commit = None
    if repo_id is None:
        record = read_record(Path(source) / "run.json")
    else:
        from hf_ela.hub.download import fetch_run

        path, commit = fetch_run(repo_id, revision=revision)
        record = read_record(path)
    origin = f"{source}@{revision}" if revision else source
    where = _data_source(record, data, origin)
    if record.data.groups and groups is None:
        say(
            "Beware: the training kept the groups of a CSV on one side of the split. Without "
            "--groups FILE, the split and the figures may differ."
        )
    _prefer_backend(record.environment.backend, say)
    with needs_extra("train", "Reproduction"):
        from hf_ela.data.loading import DataOptions
        from hf_ela.data.preparation import prepare
        from hf_ela.training.trainer import train
    options = DataOptions(
        **where,
        streaming=streaming,
        groups=groups,
        leave_out=record.data.left_out.rule if record.data.left_out else None,
        label_map=record.data.classes,
        limit=limit or record.data.limit,
        max_rejected=max(DataOptions.max_rejected, record.data.share_rejected),
        num_proc=num_proc,
        cache_dir=cache_dir,
    )
    if data and options.limit == record.data.limit:
        # Before what may be hours of training; what is computed for it stays in the cache.
        found = prepare(options, record.recipe).summary["fingerprint"]
        if found != record.data.fingerprint:
            say(
                f"Beware: {data} does not hold the images and labels that the release was trained "
                "on. The figures may differ."
            )
    if limit:
        say(f"A quick check with {limit} images of every split: figures need not fall inside.")
    out = Path(out)
    resume = (out / "checkpoint" / "settings.json").is_file()
    new = train(record.recipe, options, out, resume=resume, say=say)
    recorded = record.model_dump(by_alias=True)
    rows = compare(recorded, new)
    result = Reproduction(
        source=repo_id or Path(source).resolve().name,
        revision=commit,
        limit=limit,
        rows=rows,
        differences=differences(recorded, new),
        inside=all(row.inside for row in rows),
    )
    write_json(out / "reproduction.json", {"schema": 1, **asdict(result)})
    return result


def _data_source(record: Record, data: str | None, origin: str) -> dict[str, str]:
    """Return source and revision of the data."""
    recorded = record.data
    if data is not None:
        if not Path(data).exists():
            raise RunError(f"--data is a folder of this machine. Received: {data}, which is none.")
        return {"source": data}
    if recorded.revision is None:
        groups = " --groups FILE" if recorded.groups else ""
        raise RunError(
            f"The release was trained on a local folder, {recorded.id!r}, which you need to have "
            "(the same images have the fingerprint "
            f"{recorded.fingerprint[:12]}). Received: no --data. Repeat with it: "
            f"hf-ela reproduce {origin} --data FOLDER{groups}"
        )
    if Path(recorded.id).exists():
        raise RunError(
            f"The release was trained on the dataset {recorded.id} of the Hub. Received: a local "
            "folder of that name, which would be read instead. Work in another folder."
        )
    return {"source": recorded.id, "revision": recorded.revision}


def _prefer_backend(recorded: str, say: Callable[[str], None]) -> None:
    """Take the recorded backend where it is installed and nobody has chosen one."""
    if find_spec(recorded):
        os.environ.setdefault("KERAS_BACKEND", recorded)
    if os.environ.get("KERAS_BACKEND") != recorded:
        say(f"Beware: the release was trained with Keras on {recorded}. The figures may differ.")
