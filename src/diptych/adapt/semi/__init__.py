"""Methods that learn a head from a few labelled pictures and many without labels."""
