"""Changed pictures for tests of robustness: pure functions from uint8 ``(B, C, H, W)`` to the same, chance by explicit generators."""
