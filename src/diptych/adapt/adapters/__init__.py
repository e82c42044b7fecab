"""Methods that train a few numbers on top of frozen towers, or inside them."""
