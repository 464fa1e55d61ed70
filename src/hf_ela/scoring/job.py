"""The Ray job that scores pictures: on this machine, or on the nodes of a cluster.

Only names and counts go through Ray: a worker reads a part, scores it and writes it as one file,
whose name follows from what is in it. So a part that Ray runs again, because a node was lost, takes
the place of itself, and a repeated command scores what no file holds.
"""

import logging
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow

from hf_ela._cluster import check_nodes, connected, core_count, import_ray
from hf_ela._files import held_alone
from hf_ela.classifier import ElaClassifier
from hf_ela.errors import HfElaError, ImageError, RunError, needs_extra
from hf_ela.scoring.pictures import Part, Pictures, as_text, in_parts
from hf_ela.scoring.results import Results

FILES = 256
"""Most files of a part: an interruption costs at most one part of each worker."""
SHARES = 8
"""Parts of each worker, if there are few pictures: none waits long for the last of the others."""


class Worker:
    """Scores and writes parts, in a process of its own that holds the model."""

    def __init__(self, model: bytes, pictures: Pictures, results: Results) -> None:
        """Load the model, from where the pickled classifier says."""
        self._classifier: ElaClassifier = pickle.loads(model)  # noqa: S301  (of the driver)
        self._pictures, self._results = pictures, results

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Score the parts of a table; return how many pictures got which answer, or a failure."""
        return pyarrow.Table.from_pylist([self._done(Part.of(row)) for row in batch.to_pylist()])

    def _done(self, part: Part) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        try:
            for contents in self._pictures.contents(part):
                rows += self._rows(contents)
        except (OSError, pyarrow.ArrowException) as error:
            failure = f"{self._pictures.address} cannot be read: {error!s:.300}."
            return {"failure": f"{failure} Repeat the command to score the rest."}
        except HfElaError as error:
            return {"failure": str(error)}
        for row, path in zip(rows, part.paths, strict=True):
            row["path"] = path
        try:
            self._results.write(part, rows)
        except OSError as error:
            return {"failure": self._results.failed(error)}
        return {"answers": [_outcome(row) for row in rows]}

    def _rows(self, contents: Iterable[Any]) -> Iterator[dict[str, Any]]:
        readable = [one for one in contents if not isinstance(one, ImageError)]
        scores = self._classifier.scores(readable)
        for one in contents:
            score = one if isinstance(one, ImageError) else next(scores)
            if isinstance(score, ImageError):
                yield {"error": score.reason}
            else:
                yield {
                    "fake": float(score),
                    "label": self._classifier.label(score),
                    "uncertain": self._classifier.is_uncertain(score),
                }


def _outcome(row: Mapping[str, Any]) -> str:
    if row.get("error") is not None:
        return "refused"
    return "uncertain" if row["uncertain"] else str(row["label"])


class Job:
    """Pictures to score by a model into a folder.

    Attributes:
        total: How many pictures there are.
        left: How many of them have no result yet.
        refused: How many results were refusals before.
    """

    def __init__(
        self, classifier: ElaClassifier, pictures: Pictures, out: str, address: str | None
    ) -> None:
        """Find out what is to be done.

        Args:
            classifier: A loaded model. Workers load it anew, from the same commit or folder.
            pictures: What to score.
            out: A folder, or an address that pyarrow knows.
            address: Of a Ray cluster, host:port or ``auto``; None starts Ray on this machine alone.

        Raises:
            RunError: Ray is not installed; or `out` holds something else or cannot be written.
            DataError: The pictures cannot be listed.
        """
        with needs_extra("scale", "`hf-ela score`"):
            import_ray(local=address is None)
            import ray.data  # noqa: F401  (before any work)
        out = out.rstrip("/") if "://" in out else str(Path(out).resolve())
        self._pictures, self._results, self._address = pictures, Results(out), address
        if not pictures.only and Path(out).is_relative_to(pictures.address):
            raise RunError(
                f"`out` must lie outside the pictures. Received: {out}. Choose another folder."
            )
        files, groups = pictures.listed()
        self._results.claim(
            {
                "source": "/".join(filter(None, (pictures.address, pictures.only))),
                "model": repr(classifier),
                "digest": classifier.digest,
            }
        )
        ends = {part: (part.paths[0], part.paths[-1]) for part in groups}
        scored, self.refused = self._results.scored(
            {*map(as_text, files), *chain.from_iterable(ends.values())},
            {first.rpartition("#")[0] for first, _ in ends.values()},
        )
        for part, (first, last) in ends.items():
            if first in scored and last not in scored:
                raise RunError(
                    f"{part.files[0]} has changed since it was scored. Choose another folder as "
                    "`out`."
                )
        self._files = [name for name in files if as_text(name) not in scored]
        self._groups = [part for part in groups if ends[part][0] not in scored]
        self.total = len(files) + sum(part.rows for part in groups)
        self.left = len(self._files) + sum(part.rows for part in self._groups)
        self._model = pickle.dumps(classifier)

    def answers(self) -> Iterator[str]:
        """Score what is left; yield the answer to each picture: fake, real, uncertain or refused.

        Raises:
            RunError: The cluster cannot be reached, a node of it lacks the package, the model or
                the pictures, or a disk is full.
            DataError: What holds the pictures cannot be reached.
        """
        if not self.left:
            return
        out = self._results.address
        alone = nullcontext() if "://" in out else held_alone(Path(out), wait=False)
        with alone, connected(self._address) as ray:
            if self._address:
                places = {"pictures": self._pictures.address, "folder for results": out}
                check_nodes(ray, partial(_unloadable, self._model), places)
            yield from chain.from_iterable(self._done(ray))

    def _done(self, ray: Any) -> Iterator[Iterable[str]]:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        workers = core_count(ray)
        size = -(-len(self._files) // (workers * SHARES))
        parts = [*self._groups, *in_parts(self._files, max(1, min(FILES, size)))]
        workers = min(workers, len(parts))
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers)
        rows = ray.data.from_items(
            [part.record() for part in parts], override_num_blocks=len(parts)
        )
        done = rows.map_batches(
            Worker,
            fn_constructor_args=(self._model, self._pictures, self._results),
            batch_size=1,
            batch_format="pyarrow",
            compute=pool,
            num_cpus=1,
        )
        for row in done.iter_rows():
            if failure := row.get("failure"):
                raise RunError(failure)
            yield row["answers"]


def _unloadable(model: bytes) -> str:
    """Return why a node cannot load the model, if it cannot."""
    try:
        pickle.loads(model)  # noqa: S301
    except ModuleNotFoundError:
        raise
    except Exception as error:
        return f"cannot load the model: {error}"
    return ""
