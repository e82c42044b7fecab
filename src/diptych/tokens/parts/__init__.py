"""What several token methods share."""
