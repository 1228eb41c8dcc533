"""Training a model and registering it in MLflow."""
