"""What the science and the kernels agree on: plans, orders of rows, coordinates, and the verbs of the parts."""
