"""Event files for TensorBoard and the Metrics tab of the Hub; and Trackio, where installed."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from hf_ela.backend import keras


@contextmanager
def event_files(
    folder: Path | None, history: Mapping[str, Sequence[float]]
) -> Iterator[list[keras.callbacks.Callback]]:
    """Give the callback that writes loss and accuracy after each epoch, also for Trackio.

    Args:
        folder: For the one event file, with the whole training: that of an interrupted one is
            written again. None writes nothing.
        history: Name -> value after each epoch that is already done.
    """
    if folder is None:
        yield []
        return
    from tensorboardX import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    done = len(history.get("loss", ()))
    with closing(SummaryWriter(str(folder))) as writer, _trackio(folder.resolve(), done) as log:

        def write(epoch: int, values: Mapping[str, float]) -> None:
            named = {}
            for name, value in values.items():
                metric = name.removeprefix("val_")
                named[f"{metric}/{'train' if metric == name else 'validation'}"] = float(value)
            for name, value in named.items():
                writer.add_scalar(name, value, epoch)
            writer.flush()
            if epoch >= done:  # Trackio keeps what it has
                log(named, epoch)

        for epoch in range(done):
            write(epoch, {name: values[epoch] for name, values in history.items()})
        yield [keras.callbacks.LambdaCallback(on_epoch_end=write)]


@contextmanager
def _trackio(folder: Path, done: int) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    """Give the function that logs an epoch to Trackio: nothing is done where it is not installed.

    It stays on this machine unless the user has set a Space or a server for Trackio.
    """
    if find_spec("trackio") is None:
        yield lambda values, epoch: None
        return
    import trackio

    how = "allow" if done else "never"  # go on with that of the interrupted training
    # A folder of the same name elsewhere is another training.
    name = f"{folder.parent.name}-{sha256(str(folder).encode()).hexdigest()[:6]}"
    run = trackio.init(project="hf-ela", name=name, resume=how, embed=False)
    try:
        yield run.log
    finally:
        run.finish()
