"""The files of a model and what is in them."""
