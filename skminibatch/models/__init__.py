"""Models: parameters, how to run a plan on them, and what their gradients say."""
