"""Channels of tensors, and the units that couple them."""

from dataclasses import dataclass
from dataclasses import field

import numpy as np

INPUT = "it comes straight from a model input"
OUTPUT = "it is an output of the model"


@dataclass(frozen=True, eq=False)
class Channels:
    """What is known of one tensor while the graph is analysed.

    Attributes:
        shape: Tuple of ints, the shape of the tensor; the batch size is None.
        axis: The axis that carries channels, or None for an *opaque* tensor,
            of which nothing can be removed.
        ids: Integer array of shape `(shape[axis],)`: the raw unit id of each
            channel. Empty for an opaque tensor.
        reason: Why nothing can be removed, for an opaque tensor.
        dtype: The dtype of the tensor.
    """

    shape: tuple
    axis: int | None = None
    ids: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    reason: str = ""
    dtype: str = "float32"

    def __post_init__(self):
        if self.axis is not None and len(self.ids) != self.shape[self.axis]:
            raise ValueError(
                f"Axis {self.axis} of a tensor of shape {self.shape} needs "
                f"one unit id per channel. Received: {len(self.ids)} ids."
            )


class UnitTable:
    """Collects which raw ids are one unit, and which must stay."""

    def __init__(self):
        self._size = 0
        self._links = []
        self._frozen = []

    def fresh(self, count):
        """Makes `count` new ids, each a unit of its own so far."""
        ids = np.arange(self._size, self._size + count)
        self._size += count
        return ids

    def unify(self, first, second):
        """Makes the channels of two id arrays the same units, pairwise."""
        if len(first) != len(second):
            raise ValueError(
                f"Cannot unify {len(first)} channels with {len(second)}."
            )
        self._links.append((first, second))

    def freeze(self, ids, reason):
        """Keeps the units of `ids` whatever a plan says."""
        if len(ids):
            self._frozen.append((np.asarray(ids), reason))

    def frozen(self, count, reason):
        """Makes `count` new ids that must stay."""
        ids = self.fresh(count)
        self.freeze(ids, reason)
        return ids

    def resolve(self):
        """Closes the table.

        Returns:
            Tuple `(units, reasons)`: an integer array that maps each raw id
            to its unit, units numbered from 0; and a dict from each frozen
            unit to the first reason given.
        """
        labels = _connected(self._size, self._links)
        _, units = np.unique(labels, return_inverse=True)
        reasons = {}
        for ids, reason in self._frozen:
            for unit in np.unique(units[ids]):
                reasons.setdefault(int(unit), reason)
        return units, reasons


def _connected(size, links):
    """Labels the connected components with their smallest member."""
    labels = np.arange(size)
    if not links:
        return labels
    first = np.concatenate([a for a, _ in links])
    second = np.concatenate([b for _, b in links])
    while True:
        low = np.minimum(labels[first], labels[second])
        merged = labels.copy()
        for ids in (labels[first], labels[second], first, second):
            np.minimum.at(merged, ids, low)
        merged = merged[merged]
        if np.array_equal(merged, labels):
            return labels
        labels = merged
