"""Objectives on augmented views of the same picture, one file each."""
