"""What the tests of the CUDA backend use in place of a GPU."""
