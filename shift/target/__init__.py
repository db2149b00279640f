"""Weights and classifiers for outcomes that are distributed differently where they are used."""
