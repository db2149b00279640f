"""Distances, tables and pictures that judge weights without knowing who made them."""
