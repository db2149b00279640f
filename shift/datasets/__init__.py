"""Generators of simulated data that are distributed differently where they are used."""
