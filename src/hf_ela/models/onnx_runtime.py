"""A network as an ONNX file, run by ONNX Runtime: views in, probabilities out, without Keras.

The limits of memory and of time are those of a CPU. Other execution providers run the files that
passed the same checks, and ran once on the CPU where loading would compute. CUDA has the limit of
memory too; what hands a whole network to a device can be ended only between two steps.
"""

import logging
import weakref
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import cache, partial
from itertools import takewhile
from threading import Lock, Timer
from typing import Any, Final

import numpy as np

from hf_ela._threads import thread_count
from hf_ela.errors import ModelError
from hf_ela.models.guards import check_onnx
from hf_ela.models.settings import OUTPUT, VIEWS
from hf_ela.recipes.schema import LABELS, Recipe

MEMORY = 2**32
"""Most bytes that all models of this process may work in: a file can ask for any amount."""
SECONDS = 120
"""Most seconds of one step: those of our networks take less than one."""
PIXELS = 2**18
"""Most pixels of one step. As measured, more of them are not faster, and take more memory."""
THREADS = 8
"""Most threads of one model, which keeps them while it waits: ten models have dozens. Several
images are scored in threads of their own, each by itself."""
CPU: Final = "CPUExecutionProvider"
_OPTIONS = {
    "CUDAExecutionProvider": {
        "gpu_mem_limit": MEMORY,
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": 0,  # its 10 bits would move scores
    }
}

logger = logging.getLogger(__name__)


class OnnxModel:
    """A network that gives the probabilities of views."""

    def __init__(
        self,
        data: bytes,
        recipe: Recipe,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
    ) -> None:
        """Start a session with the contents of a file.

        Args:
            data: `OnnxFiles.from_views` of `hf_ela.models.export.onnx_files`.
            recipe: The recipe that the network must have.
            threads: As for `thread_count`; one model takes at most `THREADS`.
            providers: ONNX Runtime's execution providers in order of preference; CPU by default.

        Raises:
            ValueError: `threads` is below 1, or ONNX Runtime knows no such provider.
            ModelError: ONNX Runtime cannot read the file, it is of another recipe, or it reaches
                out of itself.
        """
        threads, providers = min(thread_count(threads), THREADS), providers or ()
        check_providers(providers)
        computes = check_onnx(data, recipe)
        self._shape = recipe.input_shape
        self._step = max(1, PIXELS // recipe.input.size**2)
        expected = (
            f"{VIEWS}: tensor(uint8) {_product(self._shape)} to "
            f"{OUTPUT}: tensor(float) {_product([len(LABELS)])}"
        )
        try:
            start = partial(onnx_session, data, threads)
            self._session = start(optimized=False) if computes else start(providers)
            ends = self._session.get_inputs(), self._session.get_outputs()
            received = " to ".join(map(_described, ends))
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ModelError(
                f"ONNX Runtime cannot load the ONNX file: {error!s:.300}. The file is corrupt, or "
                "newer than this onnxruntime: copy or download the folder again, or run "
                "pip install -U onnxruntime"
            ) from error
        if received != expected:
            raise ModelError(
                f"The ONNX file of this recipe must go from {expected}. Received: {received:.300}. "
                "It belongs to another model: copy or download the folder again."
            )
        if computes:  # loading has no limit of time: the same is computed before, within that
            self._run(np.zeros((1, *self._shape), np.uint8))
            self._session = start(providers)
        # Some devices compute one run at a time.
        self._turn = nullcontext() if self._session.get_providers() == [CPU] else Lock()
        view = np.zeros((1, *self._shape), np.uint8)
        weakref.finalize(self, _give_back, self._session, view).atexit = False

    def probabilities(self, views: np.ndarray) -> np.ndarray:
        """Return the probabilities of views.

        Args:
            views: uint8, N x the recipe's `input_shape`; see `hf_ela.ela.views.evaluation_views`.

        Returns:
            float32 array, N x 2, in the order of `LABELS`.

        Raises:
            ValueError: The views have another type or shape, or there are none.
            ModelError: The graph cannot be computed.
        """
        if views.dtype != np.uint8 or views.shape[1:] != self._shape or not len(views):
            raise ValueError(
                f"`views` must be uint8 of shape {_product(self._shape)}, N at least 1. "
                f"Received: {views.dtype} of shape {views.shape}."
            )
        starts = range(0, len(views), self._step)
        with self._turn:
            steps = [self._run(views[at : at + self._step]) for at in starts]
        return np.concatenate(steps)

    def _run(self, views: np.ndarray) -> np.ndarray:
        import onnxruntime

        options = onnxruntime.RunOptions()
        timer = Timer(SECONDS, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            (probabilities,) = self._session.run([OUTPUT], {VIEWS: views}, options)
        except Exception as error:  # as above
            _give_back(self._session, views[:1])
            remedy = "The file is corrupt or malicious: do not use it."
            if (device := self._session.get_providers()[0]) != CPU:
                remedy = f"Leave `providers` out if {device} has failed, or do not use the file."
            raise ModelError(
                f"ONNX Runtime cannot run the ONNX file in {SECONDS} seconds and {MEMORY:,} bytes "
                f"of memory: {error!s:.300}. {remedy}"
            ) from error
        finally:
            timer.cancel()
            timer.join()
        if probabilities.shape != (len(views), len(LABELS)):
            raise ModelError(
                f"The ONNX file must give {OUTPUT} of shape {(len(views), len(LABELS))}. Received: "
                f"{probabilities.shape}. The file is corrupt or malicious: do not use it."
            )
        return np.asarray(probabilities)


def _give_back(session: Any, views: np.ndarray) -> None:
    """Return the memory that earlier runs of this process worked in, by a run that ends at once."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    options.terminate = True
    with suppress(Exception):
        session.run([OUTPUT], {VIEWS: views}, options)


def check_providers(providers: Sequence[str] | None) -> None:
    """Check names of execution providers, if there are any.

    Raises:
        ValueError: ONNX Runtime knows no such provider.
    """
    if not providers:
        return
    import onnxruntime

    known = onnxruntime.get_all_providers()
    listed = isinstance(providers, list | tuple)
    if not listed or not all(isinstance(name, str) and name in known for name in providers):
        raise ValueError(
            f"`providers` must be a list of names that ONNX Runtime knows: {', '.join(known)}. "
            f"Received: {providers!r:.100}. "
            f"This onnxruntime has {', '.join(onnxruntime.get_available_providers())}."
        )


def onnx_session(
    data: bytes,
    threads: int | None = None,
    providers: Sequence[str] = (),
    *,
    optimized: bool = True,
) -> Any:
    """Return a session of ONNX Runtime; no file beside `data` is read.

    Args:
        data: The contents of the file.
        threads: As for `thread_count`.
        providers: What computes, in order of preference, before the CPU. A warning names, once,
            what cannot.
        optimized: Simplify the graph, and compute what does not depend on its input.
    """
    import onnxruntime

    _share_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(threads)
    options.log_severity_level = 4  # only what is fatal: errors come as exceptions
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for key, value in {
        "session.intra_op.allow_spinning": "0",  # threads that wait take no processor time
        "session.load_model_format": "ONNX",  # not ORT's own layout, which is not checked
        "session.use_env_allocators": "1",
    }.items():
        options.add_session_config_entry(key, value)

    def started(names: Sequence[str]) -> Any:
        chosen = [(name, _OPTIONS.get(name, {})) for name in [*names, CPU]]
        return onnxruntime.InferenceSession(data, options, chosen, enable_fallback=False)

    installed = onnxruntime.get_available_providers()
    lacking = f"this onnxruntime has only {', '.join(installed)}"
    broken = "its libraries or its device are missing"
    asked = [*takewhile(CPU.__ne__, providers)]
    usable = [name for name in asked if name in installed]
    try:
        session = started(usable)
    except Exception as error:  # of the device; or of the file, and then the CPU raises it again
        if not usable:
            raise
        session, broken = started([]), f"{error!s:.300}"
    for name in asked:
        if name not in session.get_providers():
            why = broken if name in usable else lacking
            _warn_once(name, why, session.get_providers()[0])
    return session


@cache
def _warn_once(provider: str, why: str, instead: str) -> None:
    logger.warning("%s cannot be used: %s. %s computes instead.", provider, why, instead)


@cache
def _share_memory() -> None:
    """Register the memory that the sessions of this process share, limited to `MEMORY`."""
    import onnxruntime

    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place)
    exact = {"max_mem": MEMORY, "arena_extend_strategy": 1}  # grow by as much as is requested
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(exact))


def _described(outputs: Sequence[Any]) -> str:
    return "; ".join(
        f"{end.name}: {end.type} {_product(end.shape[1:])}"
        if end.shape and not isinstance(end.shape[0], int)
        else f"{end.name}: {end.type} {end.shape}"
        for end in outputs
    )


def _product(shape: Sequence[int]) -> str:
    return " x ".join(map(str, ["N", *shape]))
