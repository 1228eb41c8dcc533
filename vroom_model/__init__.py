"""The model: training, honest comparison, registry and prediction.

Import from the modules: ``vroom_model.training``, ``vroom_model.predictor`` and their neighbours.  What
serves forecasts imports neither the trainer nor XGBoost.
"""
