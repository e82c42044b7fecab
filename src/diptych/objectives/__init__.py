"""What is minimised: one file a method, found by its ``CARD``."""
