"""Objectives for a model that is already trained."""
