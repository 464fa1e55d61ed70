"""Synthetic samples: painted by code, for demos and tests."""
