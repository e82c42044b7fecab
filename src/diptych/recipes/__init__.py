"""Recipes: one file a run, a typed function that returns a frozen ``Run`` (or a few of them, one after the other)."""
