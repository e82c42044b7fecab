"""Methods that need only the words of the classes, or little more."""
