"""Channels through Dense, Embedding and Masking."""

import keras
import numpy as np
import pytest
from keras import layers
from rules_helpers import assert_apart
from rules_helpers import assert_same
from rules_helpers import flow_of
from rules_helpers import node_of
from rules_helpers import reason_of

import keras_df as kdf
from keras_df.graph import analyze


def test_dense_reads_and_writes_the_last_axis():
    (given,), (written,), graph = flow_of(layers.Dense(5), (3, 4))
    assert_same(graph.units[node_of(graph).kernel.inputs[1]], given)
    assert_apart(np.concatenate([given, written]))
    assert node_of(graph).kernel.area == 3


def test_dense_across_another_axis_freezes():
    (given,), _, graph = flow_of(
        lambda x: layers.Dense(5, name="dense")(layers.Permute((2, 1))(x)),
        (3, 4),
    )
    assert not graph.prunable[given].any()
    assert "`dense` reads it along another axis" in graph.reasons.values()


def test_embedding_is_left_alone():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, name="table")(inputs)
    graph = analyze(keras.Model(inputs, x))
    assert graph.outputs[0].reason == "`table` is a table of vectors"


@pytest.mark.skipif(
    not hasattr(layers, "ReversibleEmbedding"),
    reason="not every version of Keras has it",
)
def test_embedding_in_reverse_costs_a_product_with_the_table():
    inputs = keras.Input((5,), dtype="int32")
    table = layers.ReversibleEmbedding(7, 4, name="table")
    model = keras.Model(inputs, table(table(inputs), reverse=True))
    assert kdf.count(model).macs == 5 * 4 * 7
    assert analyze(model).outputs[0].reason == "`table` is a table of vectors"


def test_masking_reads_across_channels():
    (given,), (written,), graph = flow_of(layers.Masking(), (3, 4))
    assert written is None and not graph.prunable[given].any()
    assert "across channels" in reason_of(graph)
