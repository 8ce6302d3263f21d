"""The loop over epochs and chunks of steps: the only one, for every estimator."""
