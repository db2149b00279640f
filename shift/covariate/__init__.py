"""Weights and classifiers for features that are distributed differently where they are used."""
