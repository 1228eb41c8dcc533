"""The model: training, honest comparison, registry and prediction.

The names below are looked up when they are first used, so that importing the package, as a web worker does,
brings neither the trainer nor MLflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vroom_model.boosting import TrainingParams
    from vroom_model.drift import watch
    from vroom_model.errors import VroomModelError
    from vroom_model.evaluation import score
    from vroom_model.explain import Explainer
    from vroom_model.ledger import Ledger
    from vroom_model.predictor import Predictor
    from vroom_model.promotion import Decision, PromotionRules, decide
    from vroom_model.registration import register_candidate, train_candidate
    from vroom_model.registry import Registry
    from vroom_model.succession import Succession
    from vroom_model.training import train
    from vroom_model.whatif import what_if

__all__ = [
    "Decision",
    "Explainer",
    "Ledger",
    "Predictor",
    "PromotionRules",
    "Registry",
    "Succession",
    "TrainingParams",
    "VroomModelError",
    "decide",
    "register_candidate",
    "score",
    "train",
    "train_candidate",
    "watch",
    "what_if",
]

_MODULES = {
    "Decision": "promotion",
    "Explainer": "explain",
    "Ledger": "ledger",
    "Predictor": "predictor",
    "PromotionRules": "promotion",
    "Registry": "registry",
    "Succession": "succession",
    "TrainingParams": "boosting",
    "VroomModelError": "errors",
    "decide": "promotion",
    "register_candidate": "registration",
    "score": "evaluation",
    "train": "training",
    "train_candidate": "registration",
    "watch": "drift",
    "what_if": "whatif",
}


def __getattr__(name: str) -> Any:  # whatever the module has under this name
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
