"""Methods that give a tower fewer image tokens to work on."""
