"""Errors of the model library.

::

    VroomModelError
    ├── BrokenModelError        a model directory is incomplete, altered, or not made for this program
    ├── TrainingDataError       a snapshot cannot be learned from; the message says why
    ├── BaselineError           a trained model is no better than one number for all vehicles
    ├── MissingValueError       a vehicle to forecast or explain has a missing or infinite value
    ├── RegistryError           MLflow cannot be reached or answers with an error
    │   ├── ModelNotFoundError  no such version, or no version under that alias
    │   ├── AlreadyExistsError  what was to be created is there
    │   └── WriteCollisionError  MLflow's database refused a write, most often because of another write
    ├── PromotionRaceError      other promotions came first, each time this one was decided
    ├── ReasonError             a person's reason is missing, or longer than what is kept
    └── RollbackError           there is no earlier champion to go back to
"""

from collections.abc import Mapping
from pathlib import Path


class VroomModelError(Exception):
    """Base of every error this library raises on purpose."""


class BrokenModelError(VroomModelError):
    def __init__(self, model: Path | str, problem: str) -> None:
        self.problem = problem
        super().__init__(f"{model} cannot be used: {problem}")


class TrainingDataError(VroomModelError): ...


class BaselineError(VroomModelError):
    def __init__(self, rmse: float, baseline_rmse: float) -> None:
        super().__init__(
            f"the model's out-of-fold root mean squared error {rmse:.3f} does not beat the mean's "
            f"{baseline_rmse:.3f}: the features say nothing about these labels; "
            "check the data before training again"
        )


class MissingValueError(VroomModelError):
    def __init__(self, broken: Mapping[str, object]) -> None:
        self.columns = tuple(broken)
        got = ", ".join(f"{value} in {name}" for name, value in broken.items())
        super().__init__(f"expected a finite number in each column, got {got}; fill in what is missing")


class RegistryError(VroomModelError): ...


class ModelNotFoundError(RegistryError): ...


class AlreadyExistsError(RegistryError): ...


class WriteCollisionError(RegistryError): ...


class PromotionRaceError(VroomModelError): ...


class ReasonError(VroomModelError): ...


class RollbackError(VroomModelError): ...
