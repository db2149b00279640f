"""Data that ship with the package, and generators of simulated studies."""
