"""Weights of the edges of a graph whose classes connect differently where it is used."""
