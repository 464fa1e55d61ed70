"""Data: from a dataset to pinned, cached and split rows."""
