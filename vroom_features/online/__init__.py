"""The online store: features of new arrivals in Redis."""
