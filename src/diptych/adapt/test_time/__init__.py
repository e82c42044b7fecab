"""Test time: the model adapts to the very pictures that it is asked about, one after another, without labels."""
