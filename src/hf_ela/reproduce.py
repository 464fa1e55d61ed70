"""Train again what a release records.

A release is data of somebody else: `hf_ela.record` validates what is taken from its ``run.json``,
and nothing in it becomes a path. `hf_ela.comparison` says what came out.
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from hf_ela.comparison import Reproduction, compare, differences
from hf_ela.errors import RunError, needs_extra_train
from hf_ela.files import write_json
from hf_ela.origin import repository_of
from hf_ela.record import Record, read_record

__all__ = ["reproduce"]


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
        from hf_ela.hub.model import fetch_run

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
    with needs_extra_train("To reproduce"):
        from hf_ela.data import prepare
        from hf_ela.source import DataOptions
        from hf_ela.training import train
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
