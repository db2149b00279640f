"""Figures that say how good predictions, selections and uncertainties are."""
