"""Pure functions from features or outcomes to numbers."""
