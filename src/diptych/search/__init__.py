"""Search in one's own pictures by words or by picture, on one's own machine."""
