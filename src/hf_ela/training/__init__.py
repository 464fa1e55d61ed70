"""Training: a run from options to `run.json`, and its reproduction."""

from typing import TYPE_CHECKING

from hf_ela._lazy import lazily

__all__ = ["Initial", "reproduce", "train"]

if TYPE_CHECKING:
    from hf_ela.training.initial import Initial
    from hf_ela.training.reproduction import reproduce
    from hf_ela.training.trainer import train

__getattr__ = lazily(
    __name__, {"Initial": "initial", "reproduce": "reproduction", "train": "trainer"}
)
