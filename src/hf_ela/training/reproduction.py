"""Repeat the training that a release records, and compare the test metrics.

A release may come from a stranger: `hf_ela.run_record` validates its ``run.json``, and nothing in
it becomes a path.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hf_ela._files import write_json
from hf_ela._terminal import printable
from hf_ela._text import in_words
from hf_ela.errors import RunError, needs_extra
from hf_ela.hub.locate import repository_of
from hf_ela.run_record import Interval, Metrics, Run, read_run
from hf_ela.training.initial import Initial


@dataclass(frozen=True)
class MetricRow:
    """A metric of the test split, recorded and reproduced.

    Attributes:
        protocol: ``as_is`` or ``aligned``.
        metric: Its name.
        recorded: Value and interval, or None where it is missing.
        reproduced: As `recorded`.
        inside: Whether the reproduced value lies in the recorded interval, both ends included;
            a value that is undefined on both sides counts as inside.
    """

    protocol: str
    metric: str
    recorded: Interval | None
    reproduced: Interval | None
    inside: bool


@dataclass(frozen=True)
class Difference:
    """Something that differs between both trainings."""

    what: str
    recorded: Any
    reproduced: Any


@dataclass(frozen=True)
class Reproduction:
    """The result of `reproduce`; also the content of ``reproduction.json``.

    Attributes:
        source: The repository, or the folder's name.
        revision: The commit of the release, or None for a folder.
        limit: The limit of a quick check, which used fewer images.
        rows: All metrics.
        differences: Data and environment that differ.
        inside: Whether all rows are inside.
    """

    source: str
    revision: str | None
    limit: int | None
    rows: list[MetricRow]
    differences: list[Difference]
    inside: bool


def compare(recorded: Run, new: Run) -> list[MetricRow]:
    """Return a row for each test metric of either run, under each protocol."""
    rows = []
    for protocol in ("as_is", "aligned"):
        then, now = (_intervals(run, protocol) for run in (recorded, new))
        for name in dict.fromkeys((*then, *now)):
            cells = then.get(name), now.get(name)
            rows.append(MetricRow(protocol, name, *cells, _inside(*cells)))
    return rows


def _intervals(run: Run, protocol: str) -> dict[str, Interval]:
    metrics: Metrics = getattr(run.evaluation.test, protocol)
    return metrics.__pydantic_extra__


def _inside(recorded: Interval | None, reproduced: Interval | None) -> bool:
    if recorded is None or reproduced is None:
        return False
    value, low, high = reproduced["value"], recorded["low"], recorded["high"]
    if value is None or low is None or high is None:
        return value is recorded["value"]
    return low <= value <= high


def differences(recorded: Run, new: Run) -> list[Difference]:
    """Return the differences between two runs in data and environment, which decide the metrics."""
    then, now = _conditions(recorded), _conditions(new)
    return [
        Difference(what, then.get(what), now.get(what))
        for what in dict.fromkeys((*then, *now))
        if then.get(what) != now.get(what)
    ]


def _conditions(run: Run) -> dict[str, Any]:
    """Return data and environment as names with plain values."""
    data, environment = run.data, run.environment.model_dump()
    return {
        "dataset": data.id,
        "dataset commit": data.revision,
        "dataset conversion": data.conversion,
        "dataset fingerprint": data.fingerprint,
        "limit": data.limit,
        "groups": data.groups and data.groups.sha256,
        "images refused": len(data.rejected),
        **{f"images {split}": size.n for split, size in data.splits.items()},
        **{key: value for key, value in environment.items() if not isinstance(value, dict)},
        **{f"package {name}": value for name, value in run.environment.packages.items()},
        **{f"pixels {name}": value for name, value in run.environment.pixels.items()},
    }


def comparison_text(result: Reproduction) -> str:
    """Return the comparison as lines for a terminal."""
    lines = ["", f"{'Test metric':32}{'recorded':24}{'reproduced':12}"]
    for row in result.rows:
        name = printable(f"{row.protocol.replace('_', '-')} {row.metric}")
        then, now = (
            in_words(cell) if cell else "missing" for cell in (row.recorded, row.reproduced)
        )
        value = now.partition(" ")[0]
        lines.append(f"{name:32}{then:24}{value:12}{'inside' if row.inside else 'OUTSIDE'}")
    lines += ["", "Differences:" if result.differences else "Data and environment are the same."]
    for found in result.differences:
        lines.append(printable(f"  {found.what}: {found.recorded}, now {found.reproduced}"))
    outside = sum(not row.inside for row in result.rows)
    if result.limit:
        verdict = (
            f"QUICK CHECK with {result.limit} images of every split, whose metrics need not be "
            f"inside: {outside} of {len(result.rows)} lie outside their"
        )
    elif outside:
        verdict = f"NOT REPRODUCED: {outside} of {len(result.rows)} metrics lie outside their"
    else:
        verdict = f"REPRODUCED: all {len(result.rows)} metrics lie inside their"
    lines += ["", f"{verdict} recorded 95 % interval."]
    return "\n".join(lines)


def reproduce(
    source: str,
    out: str | Path,
    *,
    revision: str | None = None,
    data: str | None = None,
    initial: str | None = None,
    groups: str | None = None,
    limit: int | None = None,
    streaming: bool | None = None,
    num_proc: int = 2,
    cache_dir: str | None = None,
    address: str | None = None,
    say: Callable[[str], None] = print,
    **shortcuts: Any,
) -> Reproduction:
    """Train again with the recorded recipe, seed and data, and compare the test metrics.

    Args:
        source: ``user/repo`` on the Hub, or the folder of a run or of a release.
        out: New folder for the run, which is kept. An interrupted reproduction in it is resumed.
        revision: Branch, tag or commit of the repository.
        data: Local folder with the data, if the release was made from one.
        initial: The model that the training started from, if that lay in a local folder.
        groups: CSV of groups, if the release was made with one.
        limit: Images of every split, for a quick check.
        streaming: As in `DataOptions`.
        num_proc: Processes that prepare images.
        cache_dir: Where prepared images are kept.
        address: As in `DataOptions`.
        say: Receives a line about each step.
        **shortcuts: `plots`, `export`, `resamples` and `perturbations` of
            `hf_ela.training.train`.

    Raises:
        ModelError: There is no such release, or its record is not valid.
        RunError: The run has not ended, the data is missing, training is not installed, or `out`
            is in the way.
        DataError: The data cannot be reached or used.
    """
    repo_id = repository_of(source, revision)
    commit, folder = None, Path(source)
    if repo_id is not None:
        from hf_ela.hub.download import fetch_run

        path, commit = fetch_run(repo_id, revision=revision)
        folder = path.parent
    record = read_run(folder)
    start = Initial.recorded(record.initial, initial)
    origin = f"{source}@{revision}" if revision else source
    where = _data_source(record, data, origin)
    if record.data.groups and groups is None:
        say(
            "Warning: the training kept the groups of a CSV on one side of the split. Without "
            "`groups`, the split and the metrics may differ."
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
        max_rejected=max(DataOptions.max_rejected, _share_rejected(record)),
        num_proc=num_proc,
        cache_dir=cache_dir,
        address=address,
    )
    if data and options.limit == record.data.limit:
        # Before what may be hours of training; what is computed for it stays in the cache.
        found = prepare(options, record.recipe).summary["fingerprint"]
        if found != record.data.fingerprint:
            say(
                f"Warning: {data} does not hold the images and labels that the release was trained "
                "on. The metrics may differ."
            )
    if limit:
        say(f"A quick check with {limit} images of every split: metrics need not fall inside.")
    out = Path(out)
    resume = (out / "checkpoint" / "settings.json").is_file()
    new = train(record.recipe, options, out, initial=start, resume=resume, say=say, **shortcuts)
    rows = compare(record, new)
    result = Reproduction(
        source=repo_id or Path(source).resolve().name,
        revision=commit,
        limit=limit,
        rows=rows,
        differences=differences(record, new),
        inside=all(row.inside for row in rows),
    )
    write_json(out / "reproduction.json", {"schema": 1, **asdict(result)})
    return result


def _share_rejected(record: Run) -> float:
    """Return the share of refused images that the training tolerated, rounded up."""
    refused = len(record.data.rejected)
    images = sum(split.n for split in record.data.splits.values()) + refused
    return min(1.0, (refused + 1) / max(1, images)) if refused else 0.0


def _data_source(record: Run, data: str | None, origin: str) -> dict[str, str]:
    """Return source and revision of the data."""
    recorded = record.data
    if data is not None:
        if not Path(data).exists():
            raise RunError(f"`data` must be a local folder. Received: {data}. Check the path.")
        return {"source": data}
    if recorded.revision is None:
        groups = ", and their CSV as `groups`" if recorded.groups else ""
        raise RunError(
            f"The release was trained on a local folder, {recorded.id!r}, with the fingerprint "
            f"{recorded.fingerprint[:12]}. Give the folder with the same images "
            f"as `data`{groups}."
        )
    if Path(recorded.id).exists():
        raise RunError(
            f"The release was trained on the dataset {recorded.id} on the Hub, but a local folder "
            "of that name would be read instead. Run the command in another folder."
        )
    return {"source": recorded.id, "revision": recorded.revision}


def _prefer_backend(recorded: str, say: Callable[[str], None]) -> None:
    """Choose the recorded backend if it is installed and the user has not chosen one."""
    if find_spec(recorded):
        os.environ.setdefault("KERAS_BACKEND", recorded)
    if os.environ.get("KERAS_BACKEND") != recorded:
        say(f"Warning: the release was trained with Keras on {recorded}. The metrics may differ.")
