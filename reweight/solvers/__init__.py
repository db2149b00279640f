"""Optimisers on arrays; each returns a certified `SolverResult`."""
