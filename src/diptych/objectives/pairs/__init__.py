"""Objectives on image–text pairs."""
