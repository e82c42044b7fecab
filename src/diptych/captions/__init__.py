"""Rewriting captions: one file a method, which gives the words used in place of a caption."""
