"""The trees of a booster, read from XGBoost's JSON without XGBoost."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

LEAF = -1


@dataclass(frozen=True, slots=True)
class Tree:
    """One regression tree as arrays over its nodes; node 0 is the root.

    A row goes left when its feature's float32 value is below ``threshold``; ``left`` is -1 in a leaf, whose
    value is in ``threshold``.  ``cover`` is the weight of the training rows that reached the node.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    cover: tuple[float, ...]

    def leaves(self) -> Iterator[tuple[int, tuple[tuple[int, bool], ...]]]:
        """Yield each leaf with its path: the inner nodes, and whether each was left by the left branch."""
        stack: list[tuple[int, tuple[tuple[int, bool], ...]]] = [(0, ())]
        while stack:
            node, path = stack.pop()
            if self.left[node] == LEAF:
                yield node, path
            else:
                stack.append((self.right[node], (*path, (node, False))))
                stack.append((self.left[node], (*path, (node, True))))


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A booster: a constant and trees whose leaves are added to it."""

    base: float
    trees: tuple[Tree, ...]

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a squared-error booster that XGBoost saved as JSON; ValueError if the document is another."""
        try:
            learner = json.loads(data)["learner"]
            model = learner["gradient_booster"]["model"]
            objective = learner["objective"]["name"]
            (base,) = json.loads(learner["learner_model_param"]["base_score"])
            trees = tuple(_tree(tree) for tree in model["trees"])
        except (KeyError, TypeError, ValueError) as exc:
            raise ValueError(f"not a booster of one output in XGBoost's JSON: {exc!r}") from exc
        if objective != "reg:squarederror":
            raise ValueError(f"expected the objective reg:squarederror, got {objective}")
        return cls(float(base), trees)


def _tree(tree: dict[str, Any]) -> Tree:  # a parsed JSON object
    if any(tree["split_type"]):
        raise ValueError("a split on categories")
    return Tree(
        left=tuple(tree["left_children"]),
        right=tuple(tree["right_children"]),
        feature=tuple(tree["split_indices"]),
        threshold=tuple(tree["split_conditions"]),
        cover=tuple(tree["sum_hessian"]),
    )
