"""Training: a run's settings, one step, the loop around it, checkpoints, and the same on many ranks."""
