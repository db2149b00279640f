"""Ordered outcomes: proportional odds, relaxed as far as the data ask for it."""
