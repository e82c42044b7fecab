"""How the pictogram corpus is made from the artists' packages; nothing here runs when the corpus is only read."""
