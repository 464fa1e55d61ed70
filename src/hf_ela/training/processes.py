"""Processes that train together: they meet over TCP before JAX does.

JAX ends a process that waits for others in vain, without an error that could be caught.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep

from hf_ela.backend import choose_backend, detected_processes, join_processes
from hf_ela.data.preparation import Prepared
from hf_ela.errors import BackendError, RunError
from hf_ela.recipes.schema import Recipe

SAME, DIFFERENT = b"=", b"!"
RANK_BYTES = 4


@dataclass(frozen=True)
class Processes:
    """One of several processes that share each batch; they see the same files.

    Attributes:
        coordinator: Host and port of the process with rank 0, ``host:port``.
        number: How many processes.
        rank: The number of this one, from 0, which alone writes.
        wait: Seconds for which the others are waited for.
    """

    coordinator: str
    number: int
    rank: int
    wait: float = 600

    @classmethod
    def detected(cls) -> "Processes":
        """Return this process and the others as JAX finds them in the environment.

        Raises:
            BackendError: The backend is not JAX.
            RunError: Nothing says that there are others.
        """
        if (backend := choose_backend()) != "jax":
            raise BackendError(
                f"Training by several processes requires Keras on JAX. Received: {backend}. Set "
                "KERAS_BACKEND=jax."
            )
        if not (found := detected_processes()):
            raise RunError(
                "JAX finds no Slurm or other cluster in the environment. Give "
                "`coordinator`, `processes` and `rank`."
            )
        return cls(*found)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the process with rank 0."""
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)

    def check(self) -> None:
        """Refuse what cannot be, before any work.

        Raises:
            RunError: The address, or a number, is wrong.
        """
        host, _, port = self.coordinator.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 2**16):
            raise RunError(f"`coordinator` must be HOST:PORT. Received: {self.coordinator}.")
        if not 0 <= self.rank < self.number:
            raise RunError(
                "`rank` must be from 0 to one less than `processes`. Received: "
                f"rank={self.rank}, processes={self.number}."
            )

    def join(self, recipe: Recipe, data: Prepared, checkpoint: Path) -> None:
        """Wait for the others, check that they are about to compute the same, and join them.

        Keras is not started before.

        Raises:
            RunError: Some have not come in time, or compute something else.
        """
        state = checkpoint / "state.json"
        epochs = json.loads(state.read_text("utf-8"))["history"] if state.exists() else None
        names = [data.train.file_names, data.validation.file_names]
        what = json.dumps([recipe.model_dump(), data.summary["fingerprint"], names, epochs])
        digest = sha256(what.encode()).digest()
        same = self._receive(digest) if self.rank == 0 else self._send(digest)
        if not same:
            raise RunError(
                "The processes must train the same recipe on the same images, in the same run "
                f"folder. Rank {self.rank} of {self.number} has, or others have, something else: "
                "give all of them the same options, and folders that all of them see."
            )
        join_processes(self.coordinator, self.number, self.rank)

    def _receive(self, digest: bytes) -> bool:
        """Return whether every other process has sent the same, once all have."""
        deadline = monotonic() + self.wait
        digests: dict[int, bytes] = {}
        with ExitStack() as opened:
            try:
                server = opened.enter_context(_server(self.address[1]))
            except OSError as error:
                raise RunError(
                    f"Rank 0 must be able to listen at `coordinator`. Received: {self.coordinator}"
                    f": {error.strerror}. Choose another port."
                ) from error
            connections = []
            while len(digests) < self.number - 1:
                left = deadline - monotonic()
                try:
                    if left <= 0:
                        raise TimeoutError
                    server.settimeout(left)
                    connection = opened.enter_context(server.accept()[0])
                except TimeoutError:
                    missing = set(range(1, self.number)) - set(digests)
                    raise RunError(
                        f"All {self.number} processes must come within {self.wait:g} seconds of "
                        f"each other. Missing: rank {', '.join(map(str, sorted(missing)))}. Start "
                        "them all, and look at what they print."
                    ) from None
                with suppress(OSError):  # somebody else
                    message = _read(connection, RANK_BYTES + len(digest))
                    rank = int.from_bytes(message[:RANK_BYTES])
                    if len(message) == RANK_BYTES + len(digest) and 0 < rank < self.number:
                        digests[rank] = message[RANK_BYTES:]
                        connections.append(connection)
            same = all(other == digest for other in digests.values())
            for connection in connections:
                with suppress(OSError):
                    connection.sendall(SAME if same else DIFFERENT)
                    _read(connection, 1)  # the other side closes first: the port is free at once
        return same

    def _send(self, digest: bytes) -> bool:
        """Return whether rank 0 says that all have sent the same."""
        deadline = monotonic() + self.wait
        while True:
            try:
                with socket.create_connection(self.address, timeout=5) as connection:
                    connection.settimeout(max(1.0, deadline - monotonic()))
                    connection.sendall(self.rank.to_bytes(RANK_BYTES) + digest)
                    if answer := connection.recv(1):
                        return answer == SAME
                    raise ConnectionError("it has ended")
            except OSError as error:
                if monotonic() > deadline:
                    raise RunError(
                        f"Rank 0 must answer at `coordinator` within {self.wait:g} seconds. "
                        f"Received: {self.coordinator}: {error}. Start rank 0 there, and open the "
                        "port."
                    ) from error
                sleep(0.2)


@contextmanager
def _server(port: int) -> Iterator[socket.socket]:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    with socket.create_server(("", port), family=family, dualstack_ipv6=both) as server:
        yield server


def _read(connection: socket.socket, size: int) -> bytes:
    """Read so many bytes, or fewer if the other side closes or is silent for long."""
    connection.settimeout(5)
    message = b""
    while len(message) < size and (part := connection.recv(size - len(message))):
        message += part
    return message
