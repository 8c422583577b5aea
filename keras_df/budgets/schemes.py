"""Choosing the scheme by which a kernel is decomposed."""

import numpy as np

from keras_df.budgets.cost import node_cost
from keras_df.ops.matricization import matricize

LOSSES = (0.3, 0.1, 0.03, 0.01)
"""Shares of a kernel's energy that a pair may lose, where schemes compare."""


def cheapest_scheme(node):
    """Finds the scheme whose pair is cheaper at equal error.

    For several errors, the smallest rank of each scheme that reaches the
    error is priced in MACs; the scheme with the lower mean price wins.

    Args:
        node: `Node` whose kernel can be decomposed.

    Returns:
        The scheme's number.

    Reference: Section 3.2 of the paper, which compares the two.
    """
    if len(node.kernel.schemes) == 1:
        return next(iter(node.kernel.schemes))
    prices = {scheme: _price(node, scheme) for scheme in node.kernel.schemes}
    return min(prices, key=prices.get)


def kernel_matrix(node, scheme):
    """A node's kernel, matricized by a scheme, as a float64 array."""
    kernel = np.asarray(getattr(node.operation, node.kernel.attribute))
    return np.asarray(matricize(kernel, *node.kernel.schemes[scheme]), float)


def spectral_energy(node, scheme):
    """Squares of the singular values of a kernel, descending.

    Args:
        node: `Node` whose kernel can be decomposed.
        scheme: The scheme's number.

    Returns:
        Float64 array of shape `(max_rank,)`.
    """
    matrix = kernel_matrix(node, scheme)
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    # Several times faster than a singular value decomposition.
    energy = np.linalg.eigvalsh(matrix.T @ matrix)
    return np.maximum(energy[::-1], 0.0)


def _price(node, scheme):
    energy = spectral_energy(node, scheme)
    # What is lost when all but the first are dropped, one value per rank.
    lost = energy.sum() - np.cumsum(energy)
    ranks = [np.argmax(lost <= loss * energy.sum()) + 1 for loss in LOSSES]
    of_rank = node_cost(node).amount("macs", rank=1, scheme=scheme)
    return of_rank * np.mean(ranks)
