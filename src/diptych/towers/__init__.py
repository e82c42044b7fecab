"""Image and text towers, the dual encoder that joins them, and the formats it is read from and written to."""
