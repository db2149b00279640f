"""Outcomes and labels that were recorded wrongly: find them, weigh them, learn without them."""
