"""Adaptation to labels, words or unlabelled pictures: one file a method, each giving back what a model can carry."""
