"""Quantile forecasts combined, put in order and calibrated."""
