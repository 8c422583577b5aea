"""Keep: which channels stay, asked by raw unit id."""

import numpy as np


class Keep:
    """Which channels stay: resolves raw unit ids against a decision.

    Args:
        units: Integer array that maps each raw id to its unit.
        kept: Boolean array of shape `(units,)`, True for units that stay.
    """

    def __init__(self, units, kept):
        self._stays = np.asarray(kept, bool)[units]

    def mask(self, ids):
        """Returns a boolean array of the shape of `ids`."""
        return self._stays[ids]

    def positions(self, ids):
        """Returns the positions of `ids` that stay, in order."""
        return np.flatnonzero(self._stays[ids])

    def count(self, ids):
        """Returns how many of `ids` stay."""
        return int(self._stays[ids].sum())
