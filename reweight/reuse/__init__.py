"""Bayesian grading: sparse multinomial models, and thresholds learned from a residual metric."""
