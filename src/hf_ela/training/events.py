"""Event files for TensorBoard, and the Metrics tab of the Hub, on every backend of Keras."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from hf_ela.backend import keras


@contextmanager
def event_files(
    folder: Path | None, history: Mapping[str, Sequence[float]]
) -> Iterator[list[keras.callbacks.Callback]]:
    """Give the callback that writes loss and accuracy after each epoch.

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
    with closing(SummaryWriter(str(folder))) as writer:

        def write(epoch: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                metric = name.removeprefix("val_")
                split = "train" if metric == name else "validation"
                writer.add_scalar(f"{metric}/{split}", value, epoch)
            writer.flush()

        for epoch in range(len(history.get("loss", ()))):
            write(epoch, {name: values[epoch] for name, values in history.items()})
        yield [keras.callbacks.LambdaCallback(on_epoch_end=write)]
