"""Training a model and recording and registering it in MLflow."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow's client would begin it when imported
