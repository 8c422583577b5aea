import dataclasses
import json
import os

import keras
import numpy as np
import pytest
from keras import layers

from keras_df import CompressionPlan
from keras_df import Constraints
from keras_df import FLOPs
from keras_df import MACs
from keras_df import Params
from keras_df import baselines
from keras_df import compress
from keras_df import count
from keras_df.graph import analyze
from keras_df.plan import LayerPlan


@pytest.fixture
def plan(residual_model):
    plan = baselines.random(residual_model, FLOPs(0.5))
    return dataclasses.replace(plan, notes=["made by a test"])


def changed(plan, path, **changes):
    """The plan with another decision on one layer."""
    layer = dataclasses.replace(plan.layers[path], **changes)
    return dataclasses.replace(plan, layers={**plan.layers, path: layer})


def whole(model):
    """A plan that leaves a model as it is."""
    return baselines.random(model, FLOPs(1.0))


def test_a_plan_survives_a_file(plan, tmp_path):
    plan.save(tmp_path / "plan.json")
    assert CompressionPlan.load(tmp_path / "plan.json") == plan


def test_a_plan_survives_its_config(plan):
    config = json.loads(json.dumps(plan.get_config()))
    assert CompressionPlan.from_config(config) == plan


def test_a_plan_survives_its_selection(residual_model, plan):
    graph = analyze(residual_model)
    again = CompressionPlan.from_selection(graph, plan.selection(graph))
    assert again.layers == plan.layers
    assert again.costs == plan.costs


def test_a_loaded_plan_compresses_to_what_it_says(
    residual_model, plan, tmp_path
):
    plan.save(tmp_path / "plan.json")
    loaded = CompressionPlan.load(str(tmp_path / "plan.json"))
    small = count(compress(residual_model, loaded))
    assert small.macs == plan.costs["macs"][1]
    assert small.params == plan.costs["params"][1]


def test_a_plan_that_fits_is_valid(residual_model, plan):
    plan.validate(residual_model)
    whole(residual_model).validate(residual_model)


def test_a_plan_of_another_model_is_refused(chain_model, plan):
    with pytest.raises(
        ValueError, match="made for another model.*block1_conv1"
    ):
        plan.validate(chain_model)


def test_a_missing_layer_is_refused(residual_model, plan):
    rest = {k: v for k, v in plan.layers.items() if k != "stem"}
    plan = dataclasses.replace(plan, layers=rest)
    with pytest.raises(ValueError, match=r"the model has \(stem\)"):
        plan.validate(residual_model)


def test_a_layer_of_another_size_is_refused(residual_model, plan):
    kept = tuple(range(4))
    wrong = changed(plan, "block1_conv1", channels=9, kept=kept)
    with pytest.raises(ValueError, match="'block1_conv1' has 8 output.* 9"):
        wrong.validate(residual_model)


def test_removing_one_of_two_coupled_channels_is_refused(residual_model):
    wrong = changed(whole(residual_model), "block1_conv2", kept=(0, 1, 2))
    with pytest.raises(ValueError, match="They have to go together"):
        wrong.validate(residual_model)


def test_removing_an_output_is_refused(residual_model):
    wrong = changed(whole(residual_model), "logits", kept=(0, 1, 2))
    with pytest.raises(ValueError, match="'logits' that has to stay: .*output"):
        wrong.validate(residual_model)


def test_emptying_a_layer_is_refused(residual_model):
    wrong = changed(whole(residual_model), "block1_conv1", kept=())
    with pytest.raises(
        ValueError, match="every channel of layer 'block1_conv1"
    ):
        wrong.validate(residual_model)


@pytest.mark.parametrize("rank", [0, -1, 9, 1000])
def test_a_rank_out_of_range_is_refused(residual_model, rank):
    wrong = changed(whole(residual_model), "block1_conv1", rank=rank)
    with pytest.raises(ValueError, match=f"rank {rank}; .* between 1 and 8"):
        wrong.validate(residual_model)


def test_the_largest_rank_is_that_of_the_pruned_kernel(residual_model):
    plan = changed(whole(residual_model), "block1_conv1", kept=(0, 3, 5))
    changed(plan, "block1_conv1", rank=3).validate(residual_model)
    with pytest.raises(ValueError, match="between 1 and 3"):
        changed(plan, "block1_conv1", rank=4).validate(residual_model)


def test_a_scheme_that_a_layer_lacks_is_refused(residual_model):
    wrong = changed(whole(residual_model), "logits", rank=1, scheme=2)
    with pytest.raises(ValueError, match="'logits' by Scheme 2"):
        wrong.validate(residual_model)


def test_a_grouped_layer_that_is_decomposed_is_refused():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 4)),
            layers.Conv2D(4, 3, groups=2, name="grouped"),
            layers.Conv2D(3, 3, padding="same", name="last"),
        ]
    )
    wrong = changed(whole(model), "grouped", rank=1)
    with pytest.raises(ValueError, match="grouped convolutions are not"):
        wrong.validate(model)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_another_version_is_refused(plan, tmp_path):
    config = {**plan.get_config(), "version": 99}
    path = write(tmp_path / "plan.json", json.dumps(config))
    with pytest.raises(ValueError, match=r"plan\.json.* version 99; .*reads"):
        CompressionPlan.load(path)


def test_a_truncated_file_is_refused(plan, tmp_path):
    text = json.dumps(plan.get_config())
    path = write(tmp_path / "plan.json", text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"Cannot read '.*plan\.json'"):
        CompressionPlan.load(path)


@pytest.mark.parametrize("text", ["", "not JSON", "[1, 2]", "{}", "null", "3"])
def test_what_is_no_plan_is_refused(text, tmp_path):
    path = write(tmp_path / "plan.json", text)
    with pytest.raises(ValueError, match=r"Cannot read '.*plan\.json'"):
        CompressionPlan.load(path)


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"Cannot read '.*model\.keras'"):
        CompressionPlan.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        CompressionPlan.load(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "entry",
    [
        {"kept": [0, 1.5]},
        {"kept": [0, 0]},
        {"kept": [3, 1]},
        {"kept": [-1, 2]},
        {"kept": [0, 8]},
        {"kept": 3},
        {"kept": None},
        {"rank": "3"},
        {"rank": True},
        {"channels": 8.0},
        {"scheme": None},
        {"colour": "red"},
    ],
)
def test_a_damaged_layer_is_refused(plan, entry):
    config = plan.get_config()
    config["layers"]["block1_conv1"].update(entry)
    with pytest.raises(ValueError, match=r"block1_conv1|damaged"):
        CompressionPlan.from_config(config)


@pytest.mark.parametrize("key", ["layers", "costs", "budget", "notes"])
@pytest.mark.parametrize("value", [None, 3, "missing"])
def test_a_damaged_entry_is_refused(plan, key, value):
    config = plan.get_config()
    if value == "missing":
        del config[key]
    else:
        config[key] = value
    with pytest.raises(ValueError, match="damaged"):
        CompressionPlan.from_config(config)


def test_a_failed_save_leaves_the_old_file(plan, tmp_path):
    path = tmp_path / "plan.json"
    plan.save(path)
    bad = dataclasses.replace(plan, notes=[np.zeros(2)])
    with pytest.raises(TypeError):
        bad.save(path)
    assert CompressionPlan.load(path) == plan
    assert os.listdir(tmp_path) == ["plan.json"]


def test_a_saved_file_may_be_read_like_any_other(plan, tmp_path):
    plan.save(tmp_path / "plan.json")
    (tmp_path / "other").write_text("")
    modes = {os.stat(tmp_path / n).st_mode for n in ("plan.json", "other")}
    assert len(modes) == 1


@pytest.fixture
def small_plan():
    layer_plans = {
        "conv": LayerPlan(channels=8, kept=(0, 2, 5)),
        "block/dense": LayerPlan(
            channels=4, kept=(0, 1, 2, 3), rank=2, max_rank=4
        ),
    }
    costs = {"macs": (1000, 400), "flops": (2100, 900), "params": (50, 20)}
    return CompressionPlan(layer_plans, costs, ["MACs(0.4)"], ["be careful"])


def test_the_summary_is_a_table(small_plan):
    assert small_plan.summary().splitlines() == [
        "layer        channels  rank    scheme",
        "-------------------------------------",
        "conv         3 of 8    dense",
        "block/dense  4 of 4    2 of 4  1",
        "",
        "macs              1,000 ->              400   40.00%",
        "flops             2,100 ->              900   42.86%",
        "params               50 ->               20   40.00%",
        "budget: MACs(0.4)",
        "note: be careful",
    ]
    assert str(small_plan) == small_plan.summary()


def test_explain_says_what_becomes_of_a_layer(small_plan):
    assert small_plan.explain("conv") == (
        "conv: 5 of 8 filters go; the kernel stays dense."
    )
    assert small_plan.explain("block/dense") == (
        "block/dense: 0 of 4 filters go; the kernel becomes a pair of rank 2 "
        "(of at most 4), Scheme 1."
    )


def test_explain_refuses_an_unknown_layer(small_plan):
    with pytest.raises(ValueError, match="no layer 'nowhere'.*block/dense"):
        small_plan.explain("nowhere")


def test_diff_lists_the_layers_that_differ(small_plan):
    other = changed(small_plan, "block/dense", rank=3)
    rest = {"block/dense": small_plan.layers["block/dense"]}
    assert small_plan.diff(small_plan) == {}
    assert small_plan.diff(other) == {
        "block/dense": (
            small_plan.layers["block/dense"],
            other.layers["block/dense"],
        )
    }
    fewer = dataclasses.replace(small_plan, layers=rest)
    assert small_plan.diff(fewer) == {"conv": (small_plan.layers["conv"], None)}
    assert fewer.diff(small_plan) == {"conv": (None, small_plan.layers["conv"])}


def test_a_plan_names_its_budget(residual_model):
    plan = baselines.magnitude(residual_model, [FLOPs(0.6), MACs(0.5)])
    assert plan.budget == ["FLOPs(0.6)", "MACs(0.5)"]


def test_a_plan_that_leaves_much_unused_says_so(chain_model):
    constraints = Constraints(round_to=8, decompose=False)
    plan = baselines.magnitude(
        chain_model, Params(0.9), constraints=constraints
    )
    before, after = plan.costs["params"]
    assert after < 0.89 * before
    unused = int(0.9 * before) - after
    assert any(
        f"{unused / before:.1%} of the params" in note for note in plan.notes
    )
    assert plan.notes[0] in plan.summary()


def test_a_plan_that_fills_its_budget_says_nothing(residual_model):
    plan = baselines.random(residual_model, Params(0.6))
    before, after = plan.costs["params"]
    assert after > 0.59 * before
    assert not plan.notes


@pytest.mark.parametrize(
    "second", [baselines.random, baselines.magnitude, baselines.energy]
)
def test_a_plan_after_another_does_what_both_do(residual_model, second):
    first = baselines.magnitude(residual_model, FLOPs(0.6))
    pruned = compress(residual_model, first)
    second = second(pruned, MACs(0.5))
    expected = compress(pruned, second)
    joint = first.then(second)
    small = compress(residual_model, joint)
    image = np.random.default_rng(0).normal(size=(4, 8, 8, 3))
    np.testing.assert_allclose(small(image), expected(image), atol=1e-4)
    found = count(small)
    for name, (before, after) in joint.costs.items():
        assert before == getattr(count(residual_model), name)
        assert after == getattr(found, name)
    assert joint.budget == ["FLOPs(0.6)", "then MACs(0.5)"]
    for layer in joint.layers.values():
        assert layer.rank is None or layer.rank <= layer.max_rank


def test_notes_say_which_of_two_plans_they_are_of(residual_model):
    def noted(plan, note):
        return dataclasses.replace(plan, notes=[note])

    first = baselines.magnitude(residual_model, FLOPs(0.6))
    second = baselines.energy(compress(residual_model, first), MACs(0.5))
    joint = noted(first, "few steps").then(noted(second, "no data"))
    assert joint.notes == [
        "of the first plan: few steps",
        "of the second plan: no data",
    ]


def test_no_plan_follows_one_that_decomposes(residual_model):
    first = baselines.energy(residual_model, FLOPs(0.6))
    with pytest.raises(ValueError, match="decomposes layer .*decompose=False"):
        first.then(whole(residual_model))


def test_a_plan_for_another_model_does_not_follow(residual_model, chain_model):
    first = baselines.magnitude(residual_model, FLOPs(0.6))
    with pytest.raises(ValueError, match="another model.*channels after the"):
        first.then(whole(residual_model))
    with pytest.raises(ValueError, match="has no channels after the first"):
        CompressionPlan({}, {}).then(whole(chain_model))
    with pytest.raises(TypeError, match="other"):
        first.then("plan.json")
