"""What is settled before the first step: coordinates, smoothness, the batch size, and where training starts."""
