"""Rounding a finished search: soft masks and thresholds -> scores."""

import numpy as np

EPSILON = 1e-3


def unit_scores(logits):
    """Scores filters by their mask logits; 0.5 is where the mask closes.

    Args:
        logits: Array of shape `(units,)`, in `[0, 1]`.

    Returns:
        Array of shape `(units,)`.
    """
    return np.asarray(logits, float)


def rank_scores(sigma, threshold):
    """Scores singular values against a layer's threshold.

    A score of 0.5 is at the threshold. To move the score at which a network
    is cut is to multiply all thresholds by a common factor.

    Args:
        sigma: Array of shape `(rank,)`, ascending singular values.
        threshold: Number in `[0, 1]`, a share of the largest.

    Returns:
        Array of shape `(rank,)`, descending.
    """
    sigma = np.asarray(sigma, float)[::-1]
    share = sigma / max(sigma.max(initial=0), 1e-12)
    return share / (share + threshold + EPSILON)
