"""Rounding a finished search: soft masks and thresholds -> scores."""

import numpy as np

from keras_df.search.factors import singular_values

EPSILON = 1e-3
TOLERANCE = 0.03
"""Largest difference between relaxed and integer cost not worth a note."""


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


def masked_spectra(wrappers, mask):
    """Yields the singular values of each masked kernel, as they are.

    Args:
        wrappers: Iterable of `CompressibleLayer`.
        mask: Array of shape `(units,)`, the soft mask.

    Yields:
        Array of shape `(rank,)`, ascending; empty for a kernel that stays
        dense.
    """
    for wrapper in wrappers:
        view = wrapper.view
        if view.scheme is None:
            yield np.empty(0)
            continue
        masks = {axis: mask[units] for axis, units in view.axes.items()}
        yield singular_values(view, wrapper.kernel, wrapper.metric, masks)


def disagreements(plan, shares):
    """Says where the relaxed and the integer cost are far apart.

    Args:
        plan: `CompressionPlan`.
        shares: Dict from resource to the relaxed cost, a share of the
            original.

    Returns:
        List of strings.
    """
    notes = []
    for resource, soft in shares.items():
        before, after = plan.costs[resource]
        if abs(after / before - soft) > TOLERANCE:
            notes.append(
                f"the search ended at {soft:.1%} of the {resource}, the plan "
                f"is at {after / before:.1%}: more steps would bring them "
                "together"
            )
    return notes
