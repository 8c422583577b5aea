"""Budgets: what a user asks for."""

import math
import numbers

import keras

from keras_df.checks import is_finite_number
from keras_df.checks import shown


class Budget:
    """The amount of a resource that a compressed model may use.

    Args:
        target: Number. At most 1: the share of the original that may remain.
            Above 1: an absolute amount.

    Raises:
        TypeError: If `target` is not a number.
        ValueError: If `target` is not positive and finite.
    """

    resource = None

    def __init__(self, target):
        name = type(self).__name__
        if isinstance(target, bool) or not isinstance(target, numbers.Real):
            raise TypeError(
                f"`{name}` takes a number: a share such as `{name}(0.5)` or "
                f"an absolute amount such as `{name}(1e9)`. Received: "
                f"target={shown(target)}"
            )
        if not is_finite_number(target) or target <= 0:
            raise ValueError(
                f"The target of `{name}` must be positive and finite: a share "
                "of at most 1, or an absolute amount above 1. Received: "
                f"target={shown(target)}"
            )
        self.target = target if isinstance(target, int) else float(target)

    def limit(self, total):
        """Returns the largest amount allowed, an integer.

        Args:
            total: Amount that the original model uses.
        """
        if self.target <= 1:
            return math.floor(self.target * total)
        return math.floor(self.target)

    def get_config(self):
        return {"target": self.target}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        return f"{type(self).__name__}({self.target})"


@keras.saving.register_keras_serializable(package="keras_df")
class FLOPs(Budget):
    """A budget of floating-point operations per sample.

    Two per multiply-accumulate, plus biases, normalization, pooling, merges
    and activations, as TensorFlow's profiler counts them.

    Args:
        target: Number. At most 1: the share of the original that may remain.
            Above 1: an absolute number of FLOPs.

    Example:

    >>> keras_df.FLOPs(0.5)
    FLOPs(0.5)
    """

    resource = "flops"


@keras.saving.register_keras_serializable(package="keras_df")
class MACs(Budget):
    """A budget of multiply-accumulates per sample.

    Those of convolutions, Dense layers and matrix products.

    Args:
        target: Number. At most 1: the share of the original that may remain.
            Above 1: an absolute number of MACs.

    Example:

    >>> keras_df.MACs(2e7)
    MACs(20000000.0)
    """

    resource = "macs"


@keras.saving.register_keras_serializable(package="keras_df")
class Params(Budget):
    """A budget of parameters, as `model.count_params()` counts them.

    Args:
        target: Number. At most 1: the share of the original that may remain.
            Above 1: an absolute number of parameters.

    Example:

    >>> keras_df.Params(0.3)
    Params(0.3)
    """

    resource = "params"


def as_budgets(budget):
    """Returns a list of budgets from one budget or a list of them.

    Raises:
        TypeError: If something in it is not a budget.
        ValueError: If it is empty.
    """
    budgets = list(budget) if isinstance(budget, (list, tuple)) else [budget]
    if not budgets:
        raise ValueError("`budget` is empty. Name one, as `FLOPs(0.5)`.")
    for item in budgets:
        if not isinstance(item, Budget):
            raise TypeError(
                "`budget` must be a budget such as `keras_df.FLOPs(0.5)`, or "
                f"a list of them. Received: {shown(item)}"
            )
    return budgets
