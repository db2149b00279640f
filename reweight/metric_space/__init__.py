"""Weighting vectors and the magnitude of sets of points: boundaries, outliers, diversity."""
