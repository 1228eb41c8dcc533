"""The model: training, evaluation, registry and forecasts; import from the modules."""
