"""The model: training, honest comparison, registry and prediction.

Import from the modules: ``vroom_model.training.train``, ``vroom_model.serving.predictor`` and their neighbours.  What
serves forecasts imports neither the trainer nor XGBoost.
"""
