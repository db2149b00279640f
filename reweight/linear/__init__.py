"""Linear models for streams, and for tables of runs."""
