"""The parts of the server: what requests may say, what they may cost, and the work that answers them."""
