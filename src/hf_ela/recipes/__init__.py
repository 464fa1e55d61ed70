"""Recipes: what to compute, validated, read from TOML."""
