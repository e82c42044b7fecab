"""Methods that compute a head from rows in closed form, without training."""
