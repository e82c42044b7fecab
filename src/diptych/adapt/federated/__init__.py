"""Methods whose labelled pictures lie with several clients that share no picture."""
