"""The Hugging Face Hub: everything to or from it. No other package imports `huggingface_hub`."""

from typing import TYPE_CHECKING

from hf_ela._lazy import lazily

__all__ = ["PushOptions", "release"]

if TYPE_CHECKING:
    from hf_ela.hub.plan import PushOptions
    from hf_ela.hub.push import release

__getattr__ = lazily(__name__, {"PushOptions": "plan", "release": "push"})
