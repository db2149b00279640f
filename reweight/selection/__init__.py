"""Which rows to train on."""
