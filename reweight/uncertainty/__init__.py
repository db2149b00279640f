"""Standard deviations of predictions that match the errors they announce."""
