"""Differentiable masks over filters (paper, Section 5.1.1)."""

from keras import ops


def scheduled_sigmoid(logits, steepness):
    """Computes a soft binary mask whose steepness follows a schedule.

    `mask = 1 / (1 + exp(-steepness * (logits - 0.5)))`: nearly linear while
    `steepness` is small, a step at 0.5 once it is large.

    Args:
        logits: Tensor of any shape, values in `[0, 1]`; 1 keeps a filter.
        steepness: Scalar, the schedule's `mu_i`.

    Returns:
        Tensor of the shape of `logits`, values in `(0, 1)`.

    Example:

    >>> scheduled_sigmoid(np.array([0.0, 0.5, 1.0]), steepness=50.0)
    array([1.4e-11, 0.5, 1.0])

    Reference: Eq. 8 of the paper.
    """
    return ops.sigmoid(steepness * (logits - 0.5))


def soft_count(mask):
    """Counts the filters that a soft mask keeps.

    Args:
        mask: Tensor of shape `(filters,)`, values in `[0, 1]`.

    Returns:
        Scalar tensor, the relaxed number of filters.

    Example:

    >>> soft_count(np.array([1.0, 0.5, 0.0]))
    1.5

    Reference: Eq. 12 of the paper. The paper counts with the plain sigmoid of
    Eq. 2; counting the mask that the network sees makes both agree.
    """
    return ops.sum(mask)
