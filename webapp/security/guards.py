"""Views that are only for some: who may call one is asked before its input is looked at."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Guard = Callable[[], None]


def guarded_by(guard: Guard) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that has a guard called before the view; the guard raises to refuse."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            guard()
            return view(*args, **kwargs)

        guarded.guard = guard  # type: ignore[attr-defined]  # for a blueprint that checks input before it
        return guarded

    return decorate


def guard_of(view: Callable[..., Any]) -> tuple[Guard, Callable[..., Any]]:
    """Return a view's guard, and the view without it."""
    guard: Guard | None = getattr(view, "guard", None)
    if guard is None:
        return (lambda: None), view
    return guard, view.__wrapped__  # type: ignore[attr-defined]  # as ``wraps`` leaves it
