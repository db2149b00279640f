"""Averaging, merging and pooling the parameters of fitted models."""
