"""How a search relaxes and anneals."""

from dataclasses import asdict
from dataclasses import dataclass

import keras

from keras_df.checks import check_choice
from keras_df.checks import check_positive_integer
from keras_df.checks import is_finite_number
from keras_df.checks import shown

_CHOICES = {
    "shrinkage": ("svt", "tanh"),
    "metric": ("activations", "weights"),
    "normalization": ("batch", "inference"),
    "mask": ("unit", "plain"),
    "penalty_unit": ("loss", "one"),
    "spectra": ("cached", "exact", "svd"),
}


@keras.saving.register_keras_serializable(package="keras_df")
@dataclass(frozen=True)
class SearchConfig:
    """The hyper-parameters of a search.

    The defaults are meant for every network; see `examples/benchmarks` for
    what they were measured on.

    Args:
        mask_steepness: Tuple `(mu_0, alpha)` of numbers: the steepness of
            the masks' sigmoid at the start and at the end (paper, Eq. 8).
        mask_rate: Number, at least 1: how many times as far as a threshold a
            step of the optimizer moves the logit of a mask. A mask closes
            half of the way from 1 to 0, while a threshold has done most of
            its work after a fifth; at equal rates, as in the paper, a short
            search lowers ranks before any mask closes, and fine-tuning
            recovers less.
        rank_steepness: Tuple of numbers: `C` of the soft rank's
            `tau = C / sigma_1` at the start and at the end (Eq. 13). The
            paper keeps it constant.
        ramp: Share of the steps, in `(0, 1]`, over which the budget falls
            from its value at the start to the target.
        penalty: Number, the weight of the distance to the budget (Eq. 7's
            lambda), the distance as a share of the original cost.
        penalty_unit: `"loss"` for a weight of `penalty` times the running
            mean of the loss (of at least 1e-4), so that a search finds about
            the same whatever its loss is multiplied by, `"one"` for a
            constant, as in the paper.
        mask: `"plain"` for the sigmoid of Eq. 8, which starts well below 1,
            `"unit"` to divide it by its value at logit 1, so that masks of a
            network with nothing removed change nothing.
        shrinkage: `"svt"` for singular value thresholding (Eq. 5), `"tanh"`
            for gains that become a truncation as `rank_steepness` grows.
        metric: `"activations"` to measure kernels by the error they make on
            real inputs: what a kernel still reads makes up for what masks
            take away (`keras_df.ops.compensation`), and singular values are
            those of its outputs. `"weights"` for the kernels themselves, as
            in the paper.
        normalization: `"batch"` lets BatchNormalization use the statistics
            of each batch during the search, `"inference"` its moving ones.
        spectra: `"cached"` renews the singular vectors of a kernel when its
            masks have moved, which costs a step almost nothing, `"exact"`
            does so in every step, `"svd"` likewise, through the gradient of
            `keras.ops.svd`.
        refresh_steps: Integer, after how many steps cached vectors are
            looked at.

    Raises:
        ValueError: If a value is out of range.

    Example:

    ```python
    config = keras_df.SearchConfig(metric="weights", shrinkage="svt")
    search = keras_df.SearchModel(model, keras_df.FLOPs(0.5), config=config)
    ```
    """

    mask_steepness: tuple = (2.0, 50.0)
    mask_rate: float = 4.0
    rank_steepness: tuple = (5.0, 50.0)
    ramp: float = 0.7
    penalty: float = 20.0
    penalty_unit: str = "loss"
    mask: str = "unit"
    shrinkage: str = "tanh"
    metric: str = "activations"
    normalization: str = "batch"
    spectra: str = "cached"
    refresh_steps: int = 10

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in ("mask_steepness", "rank_steepness"):
            pair = _positive_pair(name, getattr(self, name))
            object.__setattr__(self, name, pair)
        if not is_finite_number(self.mask_rate) or self.mask_rate < 1:
            raise ValueError(
                "`mask_rate` must be a number of at least 1. Received: "
                f"mask_rate={shown(self.mask_rate)}"
            )
        if not is_finite_number(self.ramp) or not 0 < self.ramp <= 1:
            raise ValueError(
                f"`ramp` must be in (0, 1]. Received: ramp={shown(self.ramp)}"
            )
        if not is_finite_number(self.penalty) or self.penalty <= 0:
            raise ValueError(
                "`penalty` must be a positive, finite number. Received: "
                f"penalty={shown(self.penalty)}"
            )
        check_positive_integer("refresh_steps", self.refresh_steps)

    def get_config(self):
        return asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _positive_pair(name, value):
    pair = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(pair) == 2 and all(is_finite_number(x) and x > 0 for x in pair):
        return pair
    raise ValueError(
        f"`{name}` must be two positive numbers, at the start and at the end "
        f"of the search. Received: {name}={shown(value)}"
    )
