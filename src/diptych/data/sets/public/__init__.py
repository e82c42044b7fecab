"""Public benchmarks on the user's disk: what each asks, its main metric and chance, and how its folder is recognised."""
