"""Training: a run from options to `run.json`, and its reproduction."""
