import keras
import pytest
from keras import layers

import keras_df as kdf
from keras_df import Constraints
from keras_df import MACs
from keras_df import Params
from keras_df import baselines
from keras_df import count


@pytest.fixture
def mixed_model():
    """Layers that can go, that cannot, and that no rule knows."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, name="stem")(inputs)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Conv2D(6, 1, name="middle")(x)
    x = layers.Conv2D(6, 3, groups=2, name="grouped")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, layers.Dense(4, name="logits")(x))


def by_name(inspection):
    return {layer.name: layer for layer in inspection.layers}


def test_numbers_are_those_of_count(residual_model):
    inspection, counted = kdf.inspect(residual_model), count(residual_model)
    assert inspection.totals == {
        "macs": counted.macs,
        "flops": counted.flops,
        "params": counted.params,
    }
    for ours, theirs in zip(inspection.layers, counted.layers, strict=True):
        assert (ours.name, ours.kind) == (theirs.name, theirs.kind)
        assert (ours.macs, ours.params) == (theirs.macs, theirs.params)


def test_what_can_go_from_each_layer(residual_model):
    found = by_name(kdf.inspect(residual_model))
    amounts = {
        name: (layer.channels, layer.prunable, layer.max_rank)
        for name, layer in found.items()
        if layer.channels
    }
    # Three rows or columns of the fewer channels.
    assert amounts == {
        "stem": (8, 8, 9),
        "block1_conv1": (8, 8, 24),
        "block1_conv2": (8, 8, 24),
        "block2_conv1": (16, 16, 24),
        "block2_conv2": (16, 16, 48),
        "block3_conv1": (16, 16, 48),
        "block3_conv2": (16, 16, 48),
        "logits": (5, 0, 5),
    }


def test_coupled_layers_share_a_group(residual_model):
    found = by_name(kdf.inspect(residual_model))
    assert found["stem"].groups == found["block1_conv2"].groups
    assert found["block2_conv2"].groups == found["block3_conv2"].groups
    assert set(found["stem"].groups) < set(found["block2_conv2"].groups)
    assert not set(found["block1_conv1"].groups) & set(found["stem"].groups)


def test_shares_of_the_macs_by_hand(mixed_model):
    inspection = kdf.inspect(mixed_model)
    macs = {x.name: x.macs for x in inspection.layers}
    total = inspection.totals["macs"]
    assert total == sum(macs.values())
    can_be_split = macs["stem"] + macs["middle"] + macs["logits"]
    assert inspection.decomposable_share == pytest.approx(can_be_split / total)
    # The stem is frozen by the norm; "middle" and all behind it can shrink.
    assert inspection.prunable_share == pytest.approx(1 - macs["stem"] / total)


def test_every_layer_left_alone_has_a_reason(mixed_model, residual_model):
    for model in (mixed_model, residual_model):
        for constraints in (
            None,
            Constraints(prune=False),
            Constraints(decompose=False),
            Constraints(skip=[layers.Conv2D]),
        ):
            for layer in kdf.inspect(model, constraints=constraints).layers:
                if layer.channels and not layer.prunable:
                    assert layer.reasons, layer
                if layer.channels and not layer.max_rank:
                    assert layer.reasons, layer


def test_reasons_say_why(mixed_model):
    found = by_name(kdf.inspect(mixed_model))
    (stem,) = found["stem"].reasons
    assert stem.startswith("pruning:") and "`norm` reads across" in stem
    assert found["grouped"].reasons == (
        "decomposition: grouped convolutions are not decomposed",
    )
    (logits,) = found["logits"].reasons
    assert "output of the model" in logits
    (norm,) = found["norm"].reasons
    assert "reads across channels" in norm


def test_layers_coupled_to_a_skipped_one_say_so(residual_model):
    constraints = Constraints(skip=["stem"])
    found = by_name(kdf.inspect(residual_model, constraints=constraints))
    assert found["stem"].reasons == ("skipped by the constraints",)
    assert found["stem"].max_rank == 0
    assert found["block1_conv2"].prunable == 0
    assert found["block1_conv2"].reasons == (
        "pruning: it shares filters with a layer that is skipped",
    )
    assert found["block1_conv1"].reasons == ()


@pytest.mark.parametrize("kind", [MACs, Params])
def test_the_smallest_amount_is_the_smallest_budget(residual_model, kind):
    constraints = Constraints(min_channels=3)
    inspection = kdf.inspect(residual_model, constraints=constraints)
    least = inspection.smallest[kind.resource]
    plan = baselines.random(
        residual_model, kind(least), constraints=constraints
    )
    assert plan.costs[kind.resource][1] == least
    with pytest.raises(ValueError, match="cannot be reached"):
        baselines.random(
            residual_model, kind(least - 1), constraints=constraints
        )


def test_str_is_a_readable_table(mixed_model):
    inspection = kdf.inspect(mixed_model)
    lines = str(inspection).splitlines()
    found = by_name(inspection)
    assert " ".join(lines[0].split()) == (
        "layer MACs params prunable rank left alone"
    )
    assert set(lines[1]) == {"-"}
    table = lines[2 : lines.index("")]
    assert [line.split()[0] for line in table] == [
        "stem",
        "norm",
        "middle",
        "grouped",
        "logits",
    ]
    stem = table[0].split()
    assert stem[1:3] == [f"{found['stem'].macs:,}", f"{found['stem'].params}"]
    assert " 0 of 8 " in table[0] and " up to 9 " in table[0]
    assert " 6 of 6 " in table[3] and " dense " in table[3]
    # Columns are aligned.
    starts = {line.index(" of ") for line in table if "norm " not in line}
    assert len(starts) == 1
    assert f"{inspection.totals['flops']:,}" in str(inspection)
    assert f"{inspection.smallest['params']:,}" in str(inspection)
    assert lines[-1].endswith("decomposed.")


def test_a_model_is_not_modified(residual_model):
    before = residual_model.to_json()
    kdf.inspect(residual_model)
    assert residual_model.to_json() == before


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"Expected a `keras\.Model`"):
        kdf.inspect(layers.Dense(2))


def test_a_budget_that_cannot_be_reached_is_refused(residual_model):
    least = kdf.inspect(residual_model).smallest["macs"]
    kdf.inspect(residual_model, kdf.MACs(float(least)))
    with pytest.raises(ValueError, match=f"the smallest is {least:,}"):
        kdf.inspect(residual_model, kdf.MACs(float(least - 1)))
    with pytest.raises(TypeError, match="budget"):
        kdf.inspect(residual_model, 0.5)


def test_what_a_budget_would_not_notice_says_so():
    model = keras.Sequential(
        [
            keras.Input((16, 16, 32)),
            layers.Conv2D(32, 3, name="conv"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(10, name="logits"),
        ]
    )
    found = by_name(kdf.inspect(model, MACs(0.5)))["logits"]
    assert found.max_rank == 0
    assert "decomposition: the budget would not notice" in found.reasons
    assert by_name(kdf.inspect(model))["logits"].max_rank == 10
    assert by_name(kdf.inspect(model, Params(0.5)))["logits"].max_rank == 10
