"""Evaluation: whether a score is real."""
