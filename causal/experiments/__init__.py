"""Experiments whose data train the models that they test."""
