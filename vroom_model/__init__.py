"""The model: training, honest comparison, registry and prediction."""
