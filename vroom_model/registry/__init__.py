"""The model registry: MLflow, promotion and retention."""
