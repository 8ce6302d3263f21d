"""What the estimators are made of: checks, targets, parts, and `fit` around one call of the training loop."""
