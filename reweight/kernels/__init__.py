"""Array kernels: pure functions that know nothing of estimators."""
