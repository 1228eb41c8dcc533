"""The loader of MLflow's ``python_function`` flavor: each model in the registry names this module."""

from vroom_model.serving.predictor import Predictor


def _load_pyfunc(path: str) -> Predictor:
    """Return the verified model in a folder; MLflow calls its ``predict``."""
    return Predictor.load(path, version=0)  # only MLflow knows the number
