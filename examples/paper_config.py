"""The paper's search, as far as it differs from the defaults."""

import keras_df as kdf

PAPER = kdf.SearchConfig(
    mask="plain",
    shrinkage="svt",
    metric="weights",
    normalization="inference",
    mask_rate=1.0,
    rank_steepness=(5.0, 5.0),
    penalty=1.0,
    penalty_unit="one",
    ramp=1e-3,
)
"""Algorithm 1 and Table 2; `tau` and `mu_0` of the table are swapped."""

SCHEME_1 = kdf.Constraints(scheme=1)
"""Kernels become a window and a 1 x 1 (Section 3.2)."""
