"""Count what breaks: hostile files, kills, faults of the Hub, hostile model folders.

    python benchmarks/campaign.py
    python benchmarks/campaign.py --seed 1 --files 20000 --kills 100

Files: real pictures in every format, damaged at random, and the files of the tests, each scored by
the packaged model in a process with bounds of memory and time. Kills: trainings and streamed
preparations that SIGKILL ends at random moments, resumed until they are complete. Faults: a release
to a local Hub and a download from it, with every request in turn going wrong, once or from then on.
Folders: saved models with other files, links, pickles and code in them, loaded with both runtimes.

Whatever happens must be an answer or an error of this package. Prints a table and writes
benchmarks/campaign.json; the exit status is 1 if anything else happened. Needs Linux, and the
packages of the tests.
"""

import argparse
import contextlib
import io
import itertools
import json
import logging
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from resource import RLIMIT_AS, setrlimit
from signal import SIGKILL
from time import perf_counter, process_time
from typing import Any, NamedTuple
from unittest.mock import patch

import h5py
from common import HERE, save
from hostile import PICTURES, damaged_files, hostile_files, hostile_folders
from huggingface_hub import constants

from conftest import HUB, TINY, wait_until_gone, write_folder
from hf_ela._files import TEMPORARY
from hf_ela._threads import batched
from hf_ela.classifier import ElaClassifier
from hf_ela.cli import main as hf_ela
from hf_ela.data.loading import DataOptions
from hf_ela.data.preparation import prepare
from hf_ela.errors import HfElaError, ImageError
from hf_ela.recipes.loading import load_recipe

SECONDS, GIB = 120, 4
"""What a process may take for one file or folder: time, and memory above that of the model."""
SPAWN = get_context("spawn")
Row = dict[str, Any]

# -------------------------------------------------------------------------- processes with bounds


class Outcome(NamedTuple):
    """What became of a file or a folder.

    Attributes:
        kind: ``scored``, ``refused``, ``crash`` or ``hang``.
        what: The score, or the error.
        seconds: Processor time, which other work on the machine does not change.
        memory: Peak of the process in MiB.
    """

    kind: str
    what: Any
    seconds: float
    memory: float = 0


def score(source: Any) -> float:
    """Return the score of an image by the packaged model."""
    (found,) = _packaged().scores([source])
    if isinstance(found, ImageError):
        raise found
    return found


@cache
def _packaged() -> ElaClassifier:
    return ElaClassifier.from_pretrained()


def score_by(folder: Path, runtime: Any) -> float:
    """Return the score of a picture by the model in a folder."""
    (found,) = ElaClassifier.from_pretrained(folder, runtime=runtime).scores([PICTURES[0]])
    return float(found)


def _memory(field: str) -> float:
    """Return a field of the system's account of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _silent() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _serve(connection: Any, work: Callable[..., float], sound: tuple[Any, ...]) -> None:
    _silent()
    work(*sound)
    setrlimit(RLIMIT_AS, (int(_memory("VmSize:") * 2**20) + GIB * 2**30,) * 2)
    connection.send(_memory("VmRSS:"))
    while True:
        arguments = connection.recv()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of memory
        started = process_time()
        try:
            kind, what = "scored", work(*arguments)
        except HfElaError as error:
            kind, what = "refused", type(error).__name__
        except BaseException as error:
            kind, what = "crash", repr(error)[:300]
        connection.send(Outcome(kind, what, process_time() - started, _memory("VmHWM:")))


class Bounded:
    """A function in a process with bounds of time and memory; one that ends is started again."""

    def __init__(self, work: Callable[..., float], *sound: Any) -> None:
        """Take the function, and arguments that it surely can work with."""
        self._arguments = work, sound
        self._start()

    def _start(self) -> None:
        self._connection, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.at_rest: float = self._connection.recv()

    def __call__(self, *arguments: Any) -> Outcome:
        """Return what became of the arguments."""
        started = perf_counter()
        self._connection.send(arguments)
        try:
            if self._connection.poll(SECONDS):
                return self._connection.recv()
            outcome = Outcome("hang", f"over {SECONDS} s", perf_counter() - started)
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            outcome = Outcome("crash", f"exit code {code}", perf_counter() - started)
        self._process.kill()
        self._start()
        return outcome


def bounded(
    named: Iterable[tuple[str, tuple[Any, ...]]], work: Callable[..., float], *sound: Any
) -> Iterator[tuple[str, Outcome]]:
    """Yield what became of each of some named arguments, in two processes at a time."""
    idle: SimpleQueue[Bounded] = SimpleQueue()
    for _ in range(2):
        idle.put(Bounded(work, *sound))

    def one(job: tuple[str, tuple[Any, ...]]) -> tuple[str, Outcome]:
        process = idle.get()
        try:
            return job[0], process(*job[1])
        finally:
            idle.put(process)

    with ThreadPoolExecutor(2) as threads:
        for some in batched(named, 64):  # few files are in memory at a time
            yield from threads.map(one, some)


# ---------------------------------------------------------------------------------------- the parts


def of_files(args: argparse.Namespace, folder: Path) -> Row:
    """Score hostile and damaged files; a sound one in between always scores the same."""
    every = itertools.chain(hostile_files(folder), damaged_files(args.seed))
    sound = PICTURES[0].read_bytes()

    def jobs() -> Iterator[tuple[str, tuple[Any, ...]]]:
        for number, (name, file) in enumerate(itertools.islice(every, args.files)):
            yield name, (file,)
            if number % 100 == 0:
                yield "sound", (sound,)

    found = list(told("files", bounded(jobs(), score, sound)))
    scores = {outcome.what for name, outcome in found if name == "sound"}
    row = summed(found)
    row["failures"] += ["a sound file was scored otherwise"] * (len(scores) - 1)
    return row


def of_folders(args: argparse.Namespace, folder: Path) -> Row:
    """Load hostile model folders by both runtimes; no code of theirs may run."""
    from bad_models import RECIPE
    from networks import classifier_of

    classifier_of(RECIPE).save_pretrained(folder / "sound")
    sign, found, others, runs = folder / "code has run", [], [], []
    for runtime in ("onnx", "keras"):
        sound = folder / "sound", runtime
        expected = Bounded(score_by, *sound)(*sound).what

        def jobs(sound: tuple[Path, str] = sound) -> Iterator[tuple[str, tuple[Any, ...]]]:
            damages = itertools.islice(hostile_folders(sign, args.seed), args.folders)
            for number, (name, damage) in enumerate(damages):
                copy = shutil.copytree(sound[0], folder / f"{sound[1]}-{number}")
                damage(copy)
                yield f"{name} ({sound[1]})", (copy, sound[1])

        for name, outcome in told(f"folders, {runtime}", bounded(jobs(), score_by, *sound)):
            found.append((name, outcome))
            if outcome.kind == "scored" and outcome.what != expected:
                others.append(name)
            if sign.exists():
                runs.append(name)
                sign.rmdir()
    row = summed(found) | {"scored_otherwise": others}
    row["failures"] += [f"the code of {name} ran" for name in runs]
    return row


def told(what: str, found: Iterable[tuple[str, Outcome]]) -> Iterator[tuple[str, Outcome]]:
    """Pass on outcomes; print their number now and then, and those that are failures."""
    for number, (name, outcome) in enumerate(found, start=1):
        if outcome.kind in ("crash", "hang"):
            print(f"{what}: {name}: {outcome.kind}, {outcome.what}", flush=True)
        if number % 250 == 0:
            print(f"{what}: {number}", flush=True)
        yield name, outcome


def summed(found: list[tuple[str, Outcome]]) -> Row:
    """Return the counts of outcomes, and which took longest and most memory."""
    kinds = Counter(outcome.kind for _, outcome in found)
    refused = Counter(outcome.what for _, outcome in found if outcome.kind == "refused")
    slowest = max(found, key=lambda one: one[1].seconds)
    bad = [f"{name}: {o.kind}, {o.what}" for name, o in found if o.kind in ("crash", "hang")]
    return {
        "tried": len(found),
        "scored": kinds["scored"],
        "refused": dict(refused.most_common()),
        "crashes": kinds["crash"],
        "hangs": kinds["hang"],
        "failures": bad,
        "slowest": {"what": slowest[0], "seconds": round(slowest[1].seconds, 2)},
        "peak_memory_mib": round(max(outcome.memory for _, outcome in found)),
    }


# ------------------------------------------------------------------------------------------- kills

MOMENTS = {"Preparing": 4, "ELA:": 8, "Training": 8, "Evaluating": 8, "Measuring": 6}
"""How a line of a training begins, and up to how many seconds after it the process is killed."""


FIGURES = ("training", "evaluation", "calibration", "robustness")
"""What the records of two equal trainings have in common."""


def _train(connection: Any, data: Path, cache: Path, out: Path) -> None:
    """Begin a training, or resume it, and tell of each step by the first word of its line."""
    from hf_ela.training.claiming import recorded
    from hf_ela.training.trainer import train

    _silent()
    if (out / "run.json").exists() and not (out / "checkpoint").exists():
        return  # killed when all was done
    resume = (out / "checkpoint" / "settings.json").exists()
    options = DataOptions(str(data), num_proc=1, cache_dir=str(cache))
    recipe, options = recorded(out) if resume else (load_recipe("scratch", TINY), options)
    few: Row = {"plots": False, "resamples": 20, "perturbations": ["jpeg_50"]}
    train(recipe, options, out, resume=resume, say=lambda x: connection.send(x.split()[0]), **few)


def _stream(connection: Any, data: Path, cache: Path) -> None:
    """Compute the error levels of a stream, with two processes."""
    os.setsid()
    _silent()
    recipe = load_recipe("scratch", [*TINY, "augmentation.views=20"])
    connection.send("Preparing")
    prepare(DataOptions(str(data), streaming=True, cache_dir=str(cache), num_proc=2), recipe)


def started(work: Callable[..., None], *arguments: Path) -> tuple[Any, Any]:
    """Return a new process, and where it tells of its steps."""
    mine, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=work, args=(theirs, *arguments))
    process.start()
    theirs.close()
    return process, mine


def killed(process: Any, steps: Any, line: str, seconds: float) -> bool:
    """Kill a process so long after a line; return whether it had not ended before."""
    with contextlib.suppress(EOFError):
        while steps.recv() != line:
            pass
        process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -SIGKILL


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    """Return the contents of files by their names in a folder."""
    files = sorted(file for file in folder.rglob(pattern) if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def results(run: Path) -> Row:
    """Return the weights of a run, to the bit, and its figures."""
    found: Row = {key: json.loads((run / "run.json").read_text())[key] for key in FIGURES}
    with h5py.File(run / "weights" / "model.weights.h5") as file:
        file.visititems(
            lambda name, x: found.update({name: x[()].tobytes()}) if hasattr(x, "shape") else None
        )
    return found


def _left_over(*folders: Path) -> list[str]:
    names = [file.name for folder in folders for file in folder.rglob("*")]
    return [name for name in names if name.startswith((TEMPORARY, "tmp"))]


def of_trainings(args: argparse.Namespace, folder: Path) -> Row:
    """Kill trainings, each up to four times, and resume them; compare their networks."""
    rng, whole = random.Random(args.seed), whole_run(folder.parent)
    data = whole.parent / "data"
    expected, names = results(whole), contents(whole, "*").keys()
    kills, runs, failures = Counter[str](), 0, []
    while kills.total() < args.kills:
        out, store = folder / f"run-{runs}", folder / f"cache-{runs}"
        for _ in range(min(4, args.kills - kills.total())):
            line = rng.choice(list(MOMENTS))
            process, steps = started(_train, data, store, out)
            if not killed(process, steps, line, rng.uniform(0, MOMENTS[line])):
                break
            kills[line] += 1
        if process.exitcode:
            process, steps = started(_train, data, store, out)
            process.join()
        if process.exitcode:
            failures.append(f"not resumed: exit code {process.exitcode}")
        elif results(out) != expected:
            failures.append("other weights or figures")
        elif left := [*(contents(out, "*").keys() ^ names), *_left_over(out, store)]:
            failures.append(f"left over or missing: {', '.join(sorted(left)[:5])}")
        runs += 1
        print(f"trainings: {runs}, killed {kills.total()} times; {failures}", flush=True)
    return {"tried": kills.total(), "runs": runs, "kills": dict(kills), "failures": failures}


@cache
def whole_run(folder: Path) -> Path:
    """Return the folder of a training that nobody interrupts, beside its data."""
    data, out = write_folder(folder / "whole" / "data"), folder / "whole" / "run"
    process, steps = started(_train, data, folder / "whole" / "cache", out)
    process.join()
    steps.close()
    return out


def of_streams(args: argparse.Namespace, folder: Path) -> Row:
    """Kill streamed preparations, and repeat them until they end; compare what they computed."""
    rng, data = random.Random(args.seed), write_folder(folder / "data", train=70, test=2)
    began = perf_counter()
    process, _ = started(_stream, data, folder / "whole")
    process.join()
    took, expected = perf_counter() - began, contents(folder / "whole", "*.arrow")
    kills, runs, failures = 0, 0, []
    while kills < args.kills:
        store = folder / f"cache-{runs}"
        for _ in range(min(4, args.kills - kills)):
            process, steps = started(_stream, data, store)
            ended = not killed(process, steps, "Preparing", rng.uniform(0, took / 2))
            kills += not ended
            try:
                wait_until_gone(process.pid)
            except AssertionError:
                failures.append("a worker outlives its parent")
                os.killpg(process.pid, SIGKILL)
            if ended:
                break
        process, _ = started(_stream, data, store)
        process.join()
        if process.exitcode or contents(store, "*.arrow") != expected or _left_over(store):
            failures.append(f"exit code {process.exitcode}; left over: {_left_over(store)}")
        runs += 1
        print(f"streams: {runs}, killed {kills} times; {failures}", flush=True)
    return {"tried": kills, "runs": runs, "failures": failures}


# -------------------------------------------------------------------------------- faults of the Hub

FAULTS: dict[str, Row] = {
    "status 500": {"status": 500, "retry_after": 0},
    "status 403": {"status": 403},
    "status 429": {"status": 429, "retry_after": 0},
    "cut in the middle": {"drop": "half"},
    "cut before the answer": {"drop": "after"},
    "null": {"answer": b"null"},
    "an object": {"answer": b"{}"},
    "a page": {"answer": b"<html>"},
}


def after_each(
    job: Callable[[], object], args: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield faults at each request of a job in turn, once or from then on, and how to order it."""
    rng = random.Random(args.seed)
    HUB.started.clear()
    job()
    kinds = [*itertools.product(FAULTS, (1, None))]
    drawn = [rng.sample(kinds, len(kinds)) for _ in HUB.started]
    rounds = ((number, kind) for at in zip(*drawn, strict=True) for number, kind in enumerate(at))
    for number, (kind, times) in itertools.islice(rounds, args.faults):
        name = f"request {number}, {kind}, {'once' if times else 'from then on'}"
        yield name, partial(_order, number, times, FAULTS[kind])


def _order(number: int, times: int | None, fault: Row) -> None:
    requests = itertools.count()

    def at_its_turn() -> None:
        if next(requests) == number:
            HUB.fault("*", "", times=times, **fault)

    HUB.clear_faults()
    HUB.before("*", "", at_its_turn)


def command(*words: object) -> tuple[int, str, str]:
    """Return exit status, output and messages of `hf-ela`, run here with an empty cache."""
    out, err = io.StringIO(), io.StringIO()
    with (
        tempfile.TemporaryDirectory() as cache,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(constants, "HF_HUB_CACHE", cache),
        patch("time.sleep"),  # the client repeats at once
        patch.object(logging.getLogger("huggingface_hub").handlers[0], "stream", err),
    ):
        try:
            status = hf_ela([*map(str, words)])
        except Exception as error:  # any at all is the failure that is looked for
            status = -1
            err.write(repr(error))
        if any(HUB.token.encode() in file for file in contents(Path(cache), "*").values()):
            err.write(HUB.token)
    return status, out.getvalue(), err.getvalue()


def of_releases(args: argparse.Namespace, folder: Path) -> Row:
    """Release over an older state with faults; then repeat the command, which must finish it."""
    before = {"README.md": b"# Old\n", "mine.txt": b"mine"}
    push = partial(command, "push", whole_run(folder.parent), "tester/art", "--tag", "v1.0.0")

    def anew() -> Any:
        HUB.reset()
        return HUB.add_model("tester/art", before)

    repository = anew()
    failures, tried, statuses, released = [], 0, Counter[int](), {}
    for name, order in after_each(push, args):
        released = released or dict(repository.find("main").files)
        tried, repository = tried + 1, anew()
        order()
        status, *said = push()
        statuses[status] += 1
        main, tag = repository.find("main"), repository.refs.get("refs/tags/v1.0.0")
        HUB.clear_faults()
        again, *more = push()
        history, tag_now = repository.history(), repository.refs.get("refs/tags/v1.0.0")
        for what, found in {
            "no error of this package": status not in (0, 2),
            "half released": main.files not in (before, released),
            "called complete": status == 0 and tag != main.sha,
            "not finished by repeating": again != 0 or history[0].files != released,
            "other history": (len(history), tag_now) != (2, history[0].sha),
            "a token": HUB.token in "".join(said + more),
        }.items():
            if found:
                failures.append(f"{name}: {what}: {''.join(said + more)[-300:]}")
        told_of_hub("releases", tried, failures)
    return {"tried": tried, "by_status": dict(statuses), "failures": failures}


def of_downloads(args: argparse.Namespace, folder: Path) -> Row:
    """Predict with a private model of the Hub with faults; repeated, it must answer as before."""
    files = {f.name: f.read_bytes() for f in (whole_run(folder.parent) / "weights").iterdir()}
    HUB.reset()
    HUB.add_model("tester/art", files, private=True)
    predict = partial(command, "predict", PICTURES[0], "--model", "tester/art", "--json")
    expected = predict()[:2]
    failures, tried, statuses = [], 0, Counter[int]()
    for name, order in after_each(predict, args):
        tried += 1
        order()
        status, *said = predict()
        statuses[status] += 1
        HUB.clear_faults()
        again, *more = predict()
        for what, found in {
            "no error of this package": status not in (0, 2),
            "another answer": status == 0 and said[0] != expected[1],
            "not finished by repeating": (again, more[0]) != expected,
            "a token": HUB.token in "".join(said + more),
        }.items():
            if found:
                failures.append(f"{name}: {what}: {''.join(said + more)[-300:]}")
        told_of_hub("downloads", tried, failures)
    return {"tried": tried, "by_status": dict(statuses), "failures": failures}


def told_of_hub(what: str, tried: int, failures: list[str]) -> None:
    """Print progress now and then."""
    if tried % 50 == 0:
        print(f"{what}: {tried}, {len(failures)} failures", flush=True)


# ------------------------------------------------------------------------------------------ report

PARTS: dict[str, tuple[str, Callable[[argparse.Namespace, Path], Row]]] = {
    "files": ("hostile and damaged files", of_files),
    "folders": ("hostile model folders, by both runtimes", of_folders),
    "releases": ("faults of the Hub in a release", of_releases),
    "downloads": ("faults of the Hub in a download", of_downloads),
    "trainings": ("kills of a training", of_trainings),
    "streams": ("kills of a streamed preparation", of_streams),
}


def table(rows: dict[str, Row]) -> str:
    """Return a table in Markdown."""
    lines = [
        "| | tried | ended well | failures | slowest, s | peak memory, MiB |",
        "| --- " * 6 + "|",
    ]
    for name, row in rows.items():
        well = f"repeated until complete: {row['tried'] - len(row['failures']):,}"
        if "scored" in row:
            refused = sum(row["refused"].values())
            well = f"{row['scored']:,} scored, {refused:,} refused by a typed error"
        elif "runs" in row:
            well = f"{row['runs']} resumed, equal to the bit"
        slow = row["slowest"]["seconds"] if "slowest" in row else ""
        cells = [PARTS[name][0], f"{row['tried']:,}", well, len(row["failures"]), slow]
        lines.append(f"| {' | '.join(map(str, [*cells, row.get('peak_memory_mib', '')]))} |")
    return "\n".join(lines)


def main() -> None:
    """Try everything, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all)")
    parser.add_argument("--files", type=int, default=3200, help="all files (3200)")
    parser.add_argument("--folders", type=int, default=240, help="all folders (240)")
    parser.add_argument("--faults", type=int, default=200, help="of each kind (200)")
    parser.add_argument("--kills", type=int, default=20, help="of each kind (20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "campaign.json")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"PART must be one of {', '.join(PARTS)}. Received: {', '.join(unknown)}.")
    os.environ["HF_TOKEN"] = HUB.token
    # Parts that are not tried again stay in the record.
    rows: dict[str, Row] = json.loads(args.out.read_text())["rows"] if args.out.exists() else {}
    with HUB, tempfile.TemporaryDirectory() as folder:
        for part in args.parts or PARTS:
            (Path(folder) / part).mkdir()
            rows[part] = PARTS[part][1](args, Path(folder) / part)
            print(json.dumps(rows[part], indent=2), flush=True)
    rows = {part: rows[part] for part in PARTS if part in rows}
    print(table(rows))
    save(args.out, {"seed": args.seed, "rows": rows})
    sys.exit(any(row["failures"] for row in rows.values()))


if __name__ == "__main__":
    main()
