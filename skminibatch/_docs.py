"""The class docstrings of the linear estimators, whose parameters are the same but for a few."""
REGRESSOR = "Linear regression."
CLASSIFIER = "Linear classification."
