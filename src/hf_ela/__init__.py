"""Estimate whether art is human-made or AI-generated, by Error Level Analysis.

``ElaClassifier`` predicts, ``error_level`` is the transform; everything heavy is imported on
first use, so that ``import hf_ela`` costs next to nothing.
"""

import os
from typing import TYPE_CHECKING

from hf_ela._lazy import lazily
from hf_ela._version import __version__

__all__ = ["ElaClassifier", "__version__", "error_level", "load_image"]

if TYPE_CHECKING:
    from hf_ela.classifier import ElaClassifier
    from hf_ela.ela.error_level import error_level
    from hf_ela.images.loading import load_image

# ONNX Runtime reads it when it is imported, here and in processes that this one starts. Without it,
# it leaves files in the user's home and sends telemetry; `disable_telemetry_events()` is late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# `datasets` and `evaluate` would tell a server which dataset is loaded.
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")

__getattr__ = lazily(
    __name__,
    {
        "ElaClassifier": "classifier",
        "error_level": "ela.error_level",
        "load_image": "images.loading",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
