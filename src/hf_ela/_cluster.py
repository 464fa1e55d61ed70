"""A Ray cluster: how it is reached, what its nodes are asked for, and functions that they call."""

import logging
import os
import pickle
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any, TypeVar

from hf_ela._terminal import native_messages_held_back
from hf_ela._threads import cores
from hf_ela.errors import HfElaError, RunError

Result = TypeVar("Result")

STORE = 2**28
"""Bytes of Ray's object store where it is started here: names and counts take little."""
SECONDS, PATIENCE = 5, 300
"""How long the address of a cluster, and the first words of a node, are waited for."""


def import_ray(*, local: bool) -> Any:
    """Import Ray so that it calls nobody, and listens on loopback alone where it is started here.

    It reads its environment once, when it is imported.
    """
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    if local:  # what Ray does by default where it has no cluster
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Start Ray on this machine, or connect to a cluster.

    Args:
        address: Of a cluster, host:port or ``auto``; None starts Ray on this machine alone.

    Raises:
        HfElaError: What a function on a node has raised.
        RunError: The cluster does not answer, or cannot go on.
    """
    ray = import_ray(local=address is None)
    here: dict[str, Any] = {"num_cpus": cores(), "object_store_memory": STORE}
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address and ":" in address:
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
        with native_messages_held_back():
            ray.init(
                address or "local",
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                **({} if address else here),
            )
    except (OSError, RuntimeError, ValueError) as error:
        place = f"at `address` {address}" if address else "on this machine"
        raise RunError(
            f"Ray cannot be used {place}: {_last_line(error)}. Check that the cluster runs "
            "(`ray status`) and that its version is the same."
        ) from error
    try:
        yield ray
    except ray.exceptions.RayError as error:
        if isinstance(cause := getattr(error, "cause", None), HfElaError):
            raise cause from None
        raise RunError(f"The Ray job failed: {_last_line(error)}. Repeat the command.") from error
    finally:
        ray.shutdown()
        if signal.getsignal(signal.SIGTERM) is not before:  # Ray has set its own for good
            signal.signal(signal.SIGTERM, before)


def check_nodes(ray: Any, asked: Callable[[], str], paths: Mapping[str, str]) -> None:
    """Ask every node for the package, for what a function of it asks for, and for files.

    Args:
        ray: From `connected`.
        asked: Called on the node; returns what is wrong there, such as ``cannot ...``, or nothing.
        paths: What must be seen from there, and where it is.

    Raises:
        RunError: A node lacks one of them.
    """
    sent = pickle.dumps(asked)

    def problem() -> str:  # sent as it is: a node may lack the module that this function is in
        try:
            if found := pickle.loads(sent)():  # noqa: S301  (pickled by the driver, above)
                return str(found)
        except ModuleNotFoundError as error:
            name = str(error.name).partition(".")[0]
            return f"lacks the package {name}. Install hf-ela there, of the same version"
        except (AttributeError, ImportError) as error:
            return f"cannot use its hf-ela: {error}. Install the same version there"
        for what, path in paths.items():
            if "://" not in path and not os.path.exists(path):  # noqa: PTH110  (text, as sent)
                return f"does not see the {what}, {path}. Use a shared disk or a bucket"
        return ""

    def alive() -> dict[str, str]:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        return {node["NodeID"]: node["NodeManagerAddress"] for node in nodes}

    answers = {}
    for node, host in alive().items():
        there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        ask = ray.remote(num_cpus=0, scheduling_strategy=there)(problem)
        answers[node, host] = ask.remote()
    for (node, host), answer in answers.items():
        try:
            found = ray.get(answer, timeout=PATIENCE)
        except ray.exceptions.RayError as error:
            lost = node not in alive()  # meanwhile: the others do its work
            found = "" if lost else f"does not answer: {_last_line(error)}"
        if found:
            raise RunError(f"The node {host} ({node[:6]}) {found}.")


def core_count(ray: Any) -> int:
    """Return how many cores the nodes of a cluster give to it.

    Raises:
        RunError: They give it none.
    """
    if found := int(ray.cluster_resources().get("CPU", 0)):
        return found
    raise RunError("The Ray cluster has no CPU. Start a node with one.")


class Nodes(Executor):
    """An executor of a cluster, a core a call; what a lost node has begun, another begins again."""

    def __init__(self, ray: Any) -> None:
        """Take what `connected` gives."""
        self._call = ray.remote(num_cpus=1)(_called)

    def submit(
        self, function: Callable[..., Result], /, *arguments: Any, **named: Any
    ) -> Future[Result]:
        """Have a node call a function, of a module."""
        future: Future[Result] = self._call.remote(function, *arguments, **named).future()
        return future


def _called(function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
    """Call a function on a node, which is named where its disk is full or its network fails."""
    try:
        return function(*arguments, **named)
    except (OSError, RunError) as error:
        import ray

        name = ray.get_runtime_context().get_node_id()[:6]
        host = ray.util.get_node_ip_address()
        raise RunError(f"On the node {host} ({name}): {str(error).rstrip('.')}.") from error


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip(" .")
