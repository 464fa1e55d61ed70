"""Evaluation: whether a score is real."""

from typing import TYPE_CHECKING

from hf_ela._lazy import lazily

__all__ = ["audit", "evaluate"]

if TYPE_CHECKING:
    from hf_ela.evaluation.evaluator import evaluate
    from hf_ela.evaluation.leak_audit.audit import audit

__getattr__ = lazily(__name__, {"audit": "leak_audit.audit", "evaluate": "evaluator"})
