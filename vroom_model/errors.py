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
    """A model directory is incomplete, altered, or not made for this program."""

    def __init__(self, directory: Path, problem: str) -> None:
        self.directory = directory
        self.problem = problem
        super().__init__(f"the model in {directory} cannot be used: {problem}")


class TrainingDataError(VroomModelError):
    """A snapshot cannot be learned from."""


class BaselineError(VroomModelError):
    """A trained model is no better than forecasting the mean of the labels for every vehicle."""

    def __init__(self, rmse: float, baseline_rmse: float) -> None:
        super().__init__(
            f"the model's out-of-fold root mean squared error {rmse:.3f} does not beat the mean's "
            f"{baseline_rmse:.3f}: the features say nothing about these labels; "
            "check the data before training again"
        )


class MissingValueError(VroomModelError):
    """A vehicle to forecast or explain has a missing or infinite value."""

    def __init__(self, broken: Mapping[str, object]) -> None:
        self.columns = tuple(broken)
        got = ", ".join(f"{value} in {name}" for name, value in broken.items())
        super().__init__(f"expected a finite number in each column, got {got}; fill in what is missing")


class RegistryError(VroomModelError):
    """The model registry cannot be reached, or answers with an error."""


class ModelNotFoundError(RegistryError):
    """The registry has no such model version."""


class AlreadyExistsError(RegistryError):
    """The registry has what was to be created."""


class WriteCollisionError(RegistryError):
    """The registry's database refused a write."""


class PromotionRaceError(VroomModelError):
    """Other promotions came first, each time this one was decided."""


class ReasonError(VroomModelError):
    """A person's reason is missing, or longer than what is kept with a decision."""


class RollbackError(VroomModelError):
    """There is no earlier champion to go back to."""
