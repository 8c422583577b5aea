"""How far a search has settled: shares that its metrics show."""

import numpy as np
from keras import ops

SETTLING = ("masks", "masks_settled", "ranks")
"""Names of the metrics that `settling` returns."""
NEAR = 0.05
"""Distance from 0 or from 1 within which a mask is settled."""


def settling(mask, ranks, limits):
    """Summarizes the relaxed masks and ranks.

    Args:
        mask: Tensor of shape `(filters,)`, the soft masks of the filters that
            may go.
        ranks: Tensor of soft ranks, 0 for kernels that stay dense.
        limits: Integer array, the largest ranks of the kernels that may be
            decomposed.

    Returns:
        Tensor of shape `(3,)`: the mean mask, the share of masks that are
        nearly 0 or 1, and the soft ranks as a share of the largest. What a
        model has none of is 1.
    """
    if not len(limits):
        share = ops.ones(())
    else:
        share = ops.sum(ranks) / np.float32(np.sum(limits))
    if not mask.shape[0]:
        return ops.stack([ops.ones(()), ops.ones(()), share])
    is_settled = ops.minimum(ops.abs(mask), ops.abs(1.0 - mask)) <= NEAR
    settled = ops.mean(ops.cast(is_settled, "float32"))
    return ops.stack([ops.mean(mask), settled, share])
