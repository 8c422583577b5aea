"""The walk over graphs, and rebuilding them."""

import keras
import numpy as np
import pytest
from invariant import difference
from invariant import random_inputs
from invariant import randomize
from keras import layers
from keras import ops

from keras_df.graph.twin import twin
from keras_df.graph.walk import graph_of
from keras_df.graph.walk import is_graph
from keras_df.graph.walk import rebuild
from keras_df.graph.walk import walk
from keras_df.graph.walk import walk_nested


def nested_model():
    inner_input = keras.Input((4,), name="inner_input")
    x = layers.Dense(4, name="dense")(inner_input)
    inner = keras.Model(inner_input, x, name="inner")
    inputs = keras.Input((4,), name="outer_input")
    x = layers.ReLU(name="relu")(inner(inputs))
    return keras.Model(inputs, inner(x), name="outer")


def visited(model):
    paths = []

    def visit(path, operation, *args, **kwargs):
        paths.append("/".join(path))
        if is_graph(operation):
            return walk_nested(path, operation, visit, args, kwargs)
        return args[0]

    walk(model, [1.0] * len(model.inputs), visit)
    return paths


def test_walk_enters_nested_models_each_time():
    assert visited(nested_model()) == [
        "inner",
        "inner/dense",
        "relu",
        "inner",
        "inner/dense",
    ]


def test_walk_computes_what_the_model_computes(residual_model):
    x = random_inputs(residual_model)
    computed = walk(
        residual_model, [x], lambda path, op, *args, **kw: op(*args, **kw)
    )
    np.testing.assert_allclose(
        np.asarray(computed), np.asarray(residual_model(x)), rtol=1e-5
    )


def test_rebuilt_model_has_the_same_parts():
    model = nested_model()
    rebuilt = rebuild(model, lambda path, operation: twin(operation))
    assert [layer.name for layer in rebuilt.layers] == [
        layer.name for layer in model.layers
    ]
    assert rebuilt.name == "outer"
    assert rebuilt.count_params() == model.count_params()
    assert not {id(x) for x in rebuilt.weights} & {id(x) for x in model.weights}


def test_rebuilt_model_keeps_the_originals_when_told_to(residual_model):
    randomize(residual_model)
    same = rebuild(residual_model, lambda path, operation: operation)
    x = random_inputs(residual_model)
    assert difference(same, residual_model, x) == 0.0


def test_rebuilt_inputs_are_alike():
    inputs = {
        "a": keras.Input((3,), dtype="int32", name="a"),
        "b": keras.Input(batch_shape=(2, 3), name="b"),
    }
    x = ops.cast(inputs["a"], "float32") + inputs["b"]
    model = keras.Model(inputs, {"sum": [x]})
    rebuilt = rebuild(model, lambda path, operation: twin(operation))
    assert set(rebuilt.input) == {"a", "b"}
    assert rebuilt.input["a"].dtype == "int32"
    assert rebuilt.input["b"].shape == (2, 3)
    assert rebuilt.input["b"].name == "b"
    assert list(rebuilt.output) == ["sum"]


def test_replacements_may_be_functions():
    model = nested_model()
    rebuilt = rebuild(model, lambda path, op: lambda x: x + 1.0)
    x = np.zeros((2, 4), "float32")
    np.testing.assert_array_equal(np.asarray(rebuilt(x)), 3.0)


def test_what_is_a_graph():
    model = nested_model()
    assert is_graph(model)
    assert not is_graph(layers.Dense(3))
    sequential = keras.Sequential([layers.Dense(3)])
    assert not is_graph(sequential)
    sequential.build((None, 4))
    assert is_graph(sequential)


def test_graph_of_an_unbuilt_sequential():
    with pytest.raises(ValueError, match="not built"):
        graph_of(keras.Sequential([layers.Dense(3)], name="mine"))
