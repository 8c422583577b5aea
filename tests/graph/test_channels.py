"""Unit ids, and which of them are one unit."""

import numpy as np
import pytest

from keras_df.graph.channels import Channels
from keras_df.graph.channels import UnitTable
from keras_df.graph.keep import Keep


def test_fresh_ids_are_units_of_their_own():
    table = UnitTable()
    first, second = table.fresh(3), table.fresh(2)
    units, reasons = table.resolve()
    assert len(np.unique(units[np.concatenate([first, second])])) == 5
    assert reasons == {}


def test_unify_is_transitive():
    table = UnitTable()
    a, b, c = (table.fresh(3) for _ in range(3))
    table.unify(a, b)
    table.unify(b, c[::-1])
    units, _ = table.resolve()
    np.testing.assert_array_equal(units[a], units[b])
    np.testing.assert_array_equal(units[a], units[c[::-1]])
    assert len(np.unique(units)) == 3


def test_long_chains_become_one_unit():
    table = UnitTable()
    ids = table.fresh(1000)
    order = np.random.default_rng(0).permutation(999)
    for i in order:
        table.unify(ids[i : i + 1], ids[i + 1 : i + 2])
    units, _ = table.resolve()
    assert units.max() == 0


def test_unify_refuses_different_lengths():
    table = UnitTable()
    with pytest.raises(ValueError, match="3 channels with 2"):
        table.unify(table.fresh(3), table.fresh(2))


def test_freezing_one_channel_freezes_its_unit_with_the_first_reason():
    table = UnitTable()
    a, b = table.fresh(2), table.fresh(2)
    table.unify(a, b)
    table.freeze(b[:1], "first")
    table.freeze(a[:1], "second")
    units, reasons = table.resolve()
    assert reasons == {int(units[a[0]]): "first"}


def test_frozen_ids_stay():
    table = UnitTable()
    ids = table.frozen(3, "because")
    units, reasons = table.resolve()
    assert set(reasons) == set(units[ids].tolist())


def test_empty_table_resolves():
    units, reasons = UnitTable().resolve()
    assert len(units) == 0 and reasons == {}


def test_channels_need_one_id_each():
    with pytest.raises(ValueError, match="one unit id per channel"):
        Channels((None, 4, 4, 3), axis=3, ids=np.arange(2))


def test_keep_answers_by_raw_id():
    keep = Keep(units=np.array([0, 1, 1, 2]), kept=[True, False, True])
    ids = np.array([1, 0, 3, 2])
    assert keep.count(ids) == 2
    np.testing.assert_array_equal(keep.positions(ids), [1, 2])
    np.testing.assert_array_equal(keep.mask(ids), [False, True, True, False])
