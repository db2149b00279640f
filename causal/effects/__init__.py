"""Treatment effects from weights."""
