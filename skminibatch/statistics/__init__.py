"""What rows, features and batches say about the step; NumPy and SciPy only."""
