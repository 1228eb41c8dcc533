"""The model that serves, and everything forecast with it."""
