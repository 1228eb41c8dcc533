"""Forecasts, their reasons and what-if curves from a model's files."""
