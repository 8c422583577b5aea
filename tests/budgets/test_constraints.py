import json

import keras
import pytest
from keras import layers

from keras_df import Constraints
from keras_df.graph import analyze


@pytest.fixture
def graph(residual_model):
    return analyze(residual_model)


@pytest.mark.parametrize("name", ["round_to", "min_channels"])
@pytest.mark.parametrize("value", [0, -8, 1.5, "8", None, True])
def test_what_is_no_positive_integer_is_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive"):
        Constraints(**{name: value})


@pytest.mark.parametrize("scheme", [0, 3, "1", None, {"stem": 3}])
def test_an_unknown_scheme_is_refused(scheme):
    with pytest.raises(ValueError, match="`scheme` must be 1, 2 or 'best'"):
        Constraints(scheme=scheme)


@pytest.mark.parametrize("name", ["floors", "caps"])
@pytest.mark.parametrize("share", [-0.1, 1.1, 50, float("nan"), "half", None])
def test_a_share_out_of_range_is_refused(name, share):
    with pytest.raises(ValueError, match=f"`{name}` holds shares"):
        Constraints(**{name: {"stem": share}})


def test_a_dimension_that_is_part_of_a_layer_keeps_multiples():
    constraints = Constraints(round_to=8)
    steps = constraints.steps(20, 0.0, 1.0, 1, whole=False)
    assert steps.tolist() == [8, 16]
    assert constraints.steps(6, 0.0, 1.0, 1, whole=False).tolist() == [6]
    assert constraints.steps(20, 0.9, 1.0, 1, whole=False).tolist() == [20]
    assert constraints.steps(16, 0.0, 1.0, 1, whole=False).tolist() == [8, 16]


def test_a_cap_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`caps` holds shares"):
        Constraints(caps={"stem": 0.0})


def test_allowing_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing can be compressed"):
        Constraints(prune=False, decompose=False)


@pytest.mark.parametrize(
    "argument",
    [
        {"skip": ["nowhere"]},
        {"skip": [layers.LSTM]},
        {"floors": {"nowhere": 0.5}},
        {"caps": {"block9_*": 0.5}},
        {"scheme": {"nowhere": 2}},
    ],
)
def test_a_layer_that_does_not_exist_is_refused(graph, argument):
    with pytest.raises(ValueError, match="matches no layer of the model"):
        Constraints(**argument).check(graph)


@pytest.mark.parametrize(
    "reference, expected",
    [
        ("block1_conv1", {"block1_conv1"}),
        ("block2_*", {"block2_conv1", "block2_conv2"}),
        ("block?_conv1", {"block1_conv1", "block2_conv1", "block3_conv1"}),
        (layers.Dense, {"logits"}),
        (
            lambda layer: getattr(layer, "strides", 0) == (2, 2),
            {"block2_conv1"},
        ),
    ],
)
def test_ways_to_name_a_layer(graph, reference, expected):
    constraints = Constraints(skip=[reference])
    skipped = {p for p, n in graph.kernels().items() if constraints.skips(n)}
    assert skipped == expected


def test_a_single_layer_to_skip_needs_no_list(graph):
    assert Constraints(skip="stem").skips(graph.nodes["stem"])
    assert not Constraints(skip="stem").skips(graph.nodes["block1_conv1"])
    only_dense = Constraints(skip=layers.Dense)
    assert only_dense.skips(graph.nodes["logits"])


def test_layers_without_the_second_scheme_use_the_first(graph):
    constraints = Constraints(scheme=2)
    assert constraints.scheme_of(graph.nodes["stem"]) == 2
    assert constraints.scheme_of(graph.nodes["logits"]) == 1


def test_schemes_by_layer(graph):
    constraints = Constraints(scheme={"block1_*": 1})
    assert constraints.scheme_of(graph.nodes["block1_conv2"]) == 1
    assert constraints.scheme_of(graph.nodes["block2_conv2"]) == 2


@pytest.mark.parametrize("window, scheme", [((3, 1), 1), ((3, 2), 2)])
def test_a_window_of_one_row_or_column_has_no_second_scheme(window, scheme):
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, window, name="conv")(inputs)
    graph = analyze(keras.Model(inputs, layers.Conv2D(2, 1)(x)))
    assert Constraints().scheme_of(graph.nodes["conv"]) == scheme


def test_skipped_layers_have_no_scheme(graph):
    constraints = Constraints(skip="stem")
    assert constraints.scheme_of(graph.nodes["stem"]) is None
    constraints = Constraints(decompose=False)
    assert constraints.scheme_of(graph.nodes["block1_conv1"]) is None


@pytest.mark.parametrize(
    "arguments, size, low, high, minimum, expected",
    [
        ({}, 5, 0.0, 1.0, 1, [1, 2, 3, 4, 5]),
        ({"round_to": 4}, 10, 0.0, 1.0, 1, [4, 8, 10]),
        ({"round_to": 8}, 6, 0.0, 1.0, 1, [6]),
        ({}, 8, 0.5, 0.75, 1, [4, 5, 6]),
        ({"round_to": 4}, 16, 0.3, 0.6, 1, [8]),
        ({}, 8, 0.0, 1.0, 6, [6, 7, 8]),
        ({}, 8, 0.0, 0.5, 6, [6]),
        ({}, 3, 0.0, 1.0, 6, [3]),
        ({}, 4, 0.0, 0.1, 1, [1]),
    ],
)
def test_the_counts_that_a_dimension_may_keep(
    arguments, size, low, high, minimum, expected
):
    steps = Constraints(**arguments).steps(size, low, high, minimum)
    assert steps.tolist() == expected


def test_constraints_survive_serialization():
    constraints = Constraints(
        round_to=8, floors={"stem": 0.5}, scheme={"stem": 2}, skip="logits"
    )
    config = keras.saving.serialize_keras_object(constraints)
    config = json.loads(json.dumps(config))
    again = keras.saving.deserialize_keras_object(config)
    assert again == constraints


def is_wide(layer):
    return getattr(layer, "filters", 0) > 8


@pytest.mark.parametrize(
    "arguments",
    [
        {"skip": layers.Dense},
        {"skip": [is_wide, "stem"]},
        {"floors": {layers.Conv2D: 0.2, "stem": 0.5}, "caps": {is_wide: 0.7}},
        {"floors": {"block1_*": 0.5}, "caps": {"*_relu*": 0.4}},
        {"scheme": "best"},
        {"scheme": {layers.Conv2D: 1, "*": 2}},
        {"decompose": False},
    ],
)
def test_resolved_constraints_say_the_same_in_json(graph, arguments):
    constraints = Constraints(**arguments)
    config = json.loads(json.dumps(constraints.resolved(graph).get_config()))
    again = Constraints.from_config(config)
    again.check(graph)
    for node in graph.nodes.values():
        assert again.skips(node) == constraints.skips(node)
        low, high = constraints.share_range(node)
        if low <= high:
            assert again.share_range(node) == (low, high)
    for node in graph.kernels().values():
        assert again.scheme_of(node) == constraints.scheme_of(node)


def test_a_layer_of_a_nested_model_is_not_taken_for_its_namesake():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="twin")], name="inner"
    )
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="twin")(inner(inputs))
    graph = analyze(keras.Model(inputs, layers.Dense(2)(x)))

    def skipped(name):
        constraints = Constraints(skip=name)
        nodes = graph.nodes.items()
        return [path for path, node in nodes if constraints.skips(node)]

    assert skipped("twin") == ["inner/twin", "twin"]
    assert skipped("/twin") == ["twin"]
    assert skipped("*/twin") == ["inner/twin"]
    assert skipped("inner/twin") == ["inner/twin"]
