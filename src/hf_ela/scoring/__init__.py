"""Scoring by many machines: where pictures lie, cut into parts, and the Ray job over them."""
