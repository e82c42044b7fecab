"""What several adaptation methods share."""
