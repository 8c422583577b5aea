import json

import keras
import numpy as np
import pytest
from keras import layers
from search_helpers import compiled
from search_helpers import separable_data
from search_helpers import small_network
from search_helpers import values

import keras_df as kdf
from keras_df.search.model import WITHOUT_FIT
from keras_df.search.model import SearchModel

IS_TENSORFLOW = keras.config.backend() == "tensorflow"


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def fitted(search, epochs=8):
    x, y = separable_data()
    history = search.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return history.history


@pytest.fixture(scope="module")
def finished():
    """A model, its finished search and the search's history."""
    keras.utils.set_random_seed(0)
    model = small_network()
    before = values(model.variables)
    search = compiled(SearchModel(model, kdf.MACs(0.5)))
    return model, before, search, fitted(search, epochs=20)


def test_the_model_is_bit_identical_afterwards(finished):
    model, before, search, _ = finished
    search.plan()
    for old, new in zip(before, values(model.variables), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(v.trainable for v in model.trainable_variables)


def test_only_masks_and_thresholds_are_trained(finished):
    model, _, search, _ = finished
    names = [variable.name for variable in search.trainable_variables]
    assert names == ["logits", "thresholds"]
    inner = search.network.get_layer("inner").layer
    np.testing.assert_array_equal(
        array(inner.kernel), array(model.get_layer("inner").kernel)
    )
    np.testing.assert_array_equal(
        array(search.network.get_layer("inner_bn").gamma),
        array(model.get_layer("inner_bn").gamma),
    )


def test_parameters_stay_within_the_unit_interval(finished):
    for parameter in finished[2].trainable_variables:
        assert array(parameter).min() >= 0
        assert array(parameter).max() <= 1


def test_the_progress_shows_the_budget_as_it_falls(finished):
    history = finished[3]
    assert history["macs"][0] > history["macs"][-1] + 0.1
    assert history["macs"][-1] < 0.56
    assert {"loss", "accuracy"} <= set(history)


def test_the_plan_meets_the_budget_as_counted_on_the_real_model(finished):
    model, _, search, _ = finished
    plan = search.plan()
    small = kdf.compress(model, plan)
    before, after = kdf.count(model).macs, kdf.count(small).macs
    assert plan.costs["macs"] == (before, after)
    assert 0.45 * before <= after <= 0.5 * before


def test_a_search_starts_where_the_original_is():
    keras.utils.set_random_seed(1)
    model = small_network()
    search = SearchModel(
        model, kdf.MACs(0.5), config=kdf.SearchConfig(shrinkage="svt")
    )
    x, _ = separable_data(8)
    np.testing.assert_allclose(
        array(search(x, training=False)),
        array(model(x, training=False)),
        atol=1e-4,
    )


@pytest.mark.parametrize("scheme", [1, 2])
def test_what_the_relaxed_network_computes_is_what_is_compressed(scheme):
    """With binary masks and steep thresholds, relaxation is the surgery."""
    keras.utils.set_random_seed(2)
    model = small_network()
    config = kdf.SearchConfig(
        metric="weights",
        mask_steepness=(2000.0, 2000.0),
        rank_steepness=(1e6, 1e6),
    )
    search = SearchModel(
        model, kdf.MACs(0.6), kdf.Constraints(scheme=scheme), config
    )
    rng = np.random.default_rng(0)
    search.logits.assign(rng.integers(0, 2, search.logits.shape))
    search.thresholds.assign(np.full(search.thresholds.shape, 0.45))
    search.refresh()
    _, soft_ranks, _ = search.relax()
    kept = np.ones(search._graph.unit_count, bool)
    kept[search._free] = array(search.logits) > 0.5
    ranks = {
        path: max(1, round(float(rank)))
        for path, rank in zip(search.wrappers, array(soft_ranks))
        if rank > 0
    }
    from keras_df.budgets.allocation import Selection

    schemes = {path: search._allocator.cost.schemes[path] for path in ranks}
    plan = kdf.CompressionPlan.from_selection(
        search._graph, Selection(kept, ranks, schemes)
    )
    small = kdf.compress(model, plan)
    x, _ = separable_data(8)
    np.testing.assert_allclose(
        array(search(x, training=False)),
        array(small(x, training=False)),
        atol=1e-4,
    )


def test_a_saved_search_reloads_and_continues(finished, tmp_path):
    _, _, search, _ = finished
    path = tmp_path / "search.keras"
    search.save(path)
    loaded = keras.models.load_model(path)
    assert loaded.plan() == search.plan()
    assert float(array(loaded.schedule.step)) == 60
    x, y = separable_data()
    loaded.fit(
        x, y, batch_size=32, verbose=0, callbacks=[kdf.DFCallback(steps=63)]
    )
    assert float(array(loaded.schedule.step)) == 63


@pytest.mark.parametrize("spectra", ["cached", "exact"])
def test_a_saved_search_keeps_the_metric_of_its_kernels(tmp_path, spectra):
    model, rng = small_network(), np.random.default_rng(0)
    for name in ("stem_bn", "inner_bn"):
        for variable in model.get_layer(name).variables:
            variable.assign(np.exp(rng.normal(size=variable.shape)))
    config = kdf.SearchConfig(spectra=spectra)
    search = compiled(SearchModel(model, kdf.MACs(0.5), config=config))
    fitted(search, epochs=4)
    search.save(tmp_path / "search.keras")
    loaded = keras.models.load_model(tmp_path / "search.keras")
    wrapper = loaded.wrappers["inner"]
    np.testing.assert_array_equal(
        wrapper.metric.scale, search.wrappers["inner"].metric.scale
    )
    assert np.ptp(wrapper.metric.scale) > 0.1
    assert loaded.plan() == search.plan()


def low_rank_by_scheme_2(model):
    """Gives a kernel one column times one row, which Scheme 1 cannot use."""
    rng, kernel = np.random.default_rng(0), model.get_layer("outer").kernel
    height, width, channels, filters = kernel.shape
    columns = rng.normal(size=(height, 1, channels, 1))
    kernel.assign(columns * rng.normal(size=(1, width, 1, filters)))


@pytest.mark.parametrize("metric", ["activations", "weights"])
@pytest.mark.parametrize(
    "options",
    [{"scheme": "best"}, {"skip": layers.Dense}, {"floors": {"*": 0.3}}],
)
def test_a_saved_search_keeps_its_constraints(tmp_path, metric, options):
    model = small_network()
    low_rank_by_scheme_2(model)
    search = SearchModel(
        model,
        kdf.MACs(0.5),
        kdf.Constraints(**options),
        kdf.SearchConfig(metric=metric),
    )
    fitted(compiled(search), epochs=2)
    plan = search.plan()
    for variable in model.variables:  # Its owner may go on training it.
        variable.assign(np.ones(variable.shape))
    search.save(tmp_path / "search.keras")
    loaded = keras.models.load_model(tmp_path / "search.keras")
    assert loaded._allocator.cost.schemes == search._allocator.cost.schemes
    assert loaded.plan() == plan


def test_what_layers_add_to_the_loss_counts():
    regularized = small_network()
    for name in ("stem", "inner", "logits"):
        layer = regularized.get_layer(name)
        layer.activity_regularizer = keras.regularizers.L2(0.1)
    x, y = separable_data()
    config = kdf.SearchConfig(shrinkage="svt")
    search = SearchModel(regularized, kdf.MACs(0.6), config=config)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    search.compile(loss=loss)
    regularized.compile(loss=loss)
    expected = regularized.evaluate(x, y, verbose=0)
    plain = small_network()
    plain.set_weights(regularized.get_weights())
    plain.compile(loss=loss)
    assert expected > 2 * plain.evaluate(x, y, verbose=0)
    found = search.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=1e-4)


def test_config_is_json(finished):
    config = finished[2].get_config()
    assert json.loads(json.dumps(config))["budget"]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        x, y = separable_data()
        return x[index::3], y[index::3]


def from_generator():
    while True:
        for index in range(3):
            yield Batches()[index]


def from_tf_data():
    tf = pytest.importorskip("tensorflow")
    x, y = separable_data()
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(32)


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
@pytest.mark.parametrize("make", [Batches, from_generator, from_tf_data])
def test_any_data_that_fit_takes(make):
    search = compiled(SearchModel(small_network(), kdf.MACs(0.7)))
    options = {"steps_per_epoch": 3} if make is from_generator else {}
    search.fit(make(), epochs=2, verbose=0, **options)
    assert float(array(search.schedule.step)) == 6
    assert array(search.is_calibrated)[0] == 1


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_inputs_side_by_side(kind):
    inputs = [keras.Input((4,)), keras.Input((6,))]
    x = keras.layers.Concatenate()([keras.layers.Dense(8)(i) for i in inputs])
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    search = compiled(SearchModel(model, kdf.MACs(0.7)))
    arrays = kind([np.ones((8, 4), "float32"), np.ones((8, 6), "float32")])
    search.fit(arrays, np.zeros(8), verbose=0)
    assert array(search.is_calibrated)[0] == 1


def test_a_generator_loses_no_batch_to_calibration():
    seen = []

    def generate():
        for index in range(6):
            seen.append(index)
            yield Batches()[index % 3]

    search = compiled(SearchModel(small_network(), kdf.MACs(0.7)))
    search.fit(generate(), steps_per_epoch=6, verbose=0)
    assert float(array(search.schedule.step)) == 6
    assert seen == list(range(6))


def test_several_budgets_hold_together():
    search = SearchModel(small_network(), [kdf.MACs(0.6), kdf.Params(0.5)])
    history = fitted(compiled(search), epochs=4)
    assert {"macs", "params"} <= set(history)
    costs = search.plan().costs
    assert costs["macs"][1] <= 0.6 * costs["macs"][0]
    assert costs["params"][1] <= 0.5 * costs["params"][0]


def test_an_unreachable_budget_is_refused_with_the_bound():
    with pytest.raises(ValueError, match=r"smallest is [\d,]+"):
        SearchModel(small_network(), kdf.MACs(0.001))


def test_a_subclassed_model_is_refused():
    class Custom(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="subclassed"):
        SearchModel(Custom(), kdf.MACs(0.5))


@pytest.mark.parametrize("budget", [0.5, "half", None, [0.5], []])
def test_a_budget_of_the_wrong_type_is_refused(budget):
    with pytest.raises((TypeError, ValueError), match="FLOPs"):
        SearchModel(small_network(), budget)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_the_relaxation_in_float32(policy):
    keras.config.set_dtype_policy(policy)
    try:
        search = compiled(SearchModel(small_network(), kdf.MACs(0.6)))
    finally:
        keras.config.set_dtype_policy("float32")
    history = fitted(search, epochs=2)
    assert np.isfinite(history["loss"]).all()
    kernel = search.relax()[0][0]
    assert keras.backend.standardize_dtype(kernel.dtype) == "float32"


def test_eager_and_compiled_steps_agree():
    results = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(3)
        search = compiled(
            SearchModel(small_network(), kdf.MACs(0.6)), run_eagerly=eagerly
        )
        x, y = separable_data()
        search.fit(x, y, batch_size=96, epochs=2, verbose=0, shuffle=False)
        results.append(values(search.trainable_variables))
    for compiled_value, eager_value in zip(*results):
        np.testing.assert_allclose(compiled_value, eager_value, atol=1e-4)


@pytest.mark.slow
def test_xla_compiles_a_step():
    search = SearchModel(small_network(), kdf.MACs(0.6))
    fitted(compiled(search, jit_compile=True), epochs=1)
    assert np.isfinite(array(search.logits)).all()


def test_several_outputs_with_several_losses():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    maps = layers.Conv2D(2, 1, name="maps")(layers.Conv2D(8, 3)(x))
    score = layers.Dense(1, name="score")(layers.Flatten()(x))
    model = keras.Model(inputs, {"maps": maps, "score": score})
    search = SearchModel(model, kdf.FLOPs(0.6))
    search.compile("adam", loss={"maps": "mse", "score": "mae"})
    images, _ = separable_data(32)
    targets = {"maps": images[:, 2:6, 2:6, :2], "score": images[:, 0, 0, :1]}
    search.fit(images, targets, sample_weight=None, verbose=0)
    assert search.plan().costs["flops"][1] <= (
        0.6 * search.plan().costs["flops"][0]
    )


def test_a_frozen_nested_base_is_searched():
    keras.utils.set_random_seed(0)
    base = small_network(outputs=8)
    base.trainable = False
    inputs = keras.Input((8, 8, 3))
    outputs = layers.Dense(3)(base(inputs, training=False))
    model = keras.Model(inputs, outputs)
    search = compiled(SearchModel(model, kdf.MACs(0.5)), learning_rate=1e-2)
    history = fitted(search, epochs=25)
    assert history["macs"][-1] == pytest.approx(0.5, abs=0.1)
    assert not base.trainable
    small = kdf.compress(model, search.plan())
    assert kdf.count(small).macs <= 0.5 * kdf.count(model).macs


def test_a_step_moves_masks_at_their_rate():
    """The way from open to closed is as much shorter as the rate is higher."""
    searches = [
        SearchModel(
            small_network(),
            kdf.MACs(0.5),
            config=kdf.SearchConfig(mask_rate=rate),
        )
        for rate in (1.0, 4.0)
    ]
    for search, value in zip(searches, (0.6, 0.9)):
        search.logits.assign(np.full(search.logits.shape, value))
        search.logits.assign(search.logits.constraint(search.logits))
    masks = [array(search._mask()) for search in searches]
    np.testing.assert_allclose(*masks, atol=1e-6)
    for search in searches:
        search.logits.assign(search.logits.constraint(0 * search.logits))
    closed = [array(search._mask()) for search in searches]
    np.testing.assert_allclose(*closed, atol=1e-6)


@pytest.mark.parametrize(
    "options, untouched",
    [({"prune": False}, "channels"), ({"decompose": False}, "rank")],
)
def test_one_half_of_the_method_alone(options, untouched):
    constraints = kdf.Constraints(**options)
    search = SearchModel(
        small_network(), kdf.MACs(0.6), constraints=constraints
    )
    fitted(compiled(search), epochs=3)
    for layer in search.plan().layers.values():
        if untouched == "channels":
            assert len(layer.kept) == layer.channels
        else:
            assert layer.rank is None


def test_a_plan_far_from_the_relaxation_says_so():
    search = compiled(SearchModel(small_network(), kdf.MACs(0.5)))
    fitted(search, epochs=1)
    assert "more steps" in search.plan().summary()


class Scaled(layers.Layer):
    """A layer with a weight that its config does not tell how to copy."""

    def __init__(self, initial):
        super().__init__()
        self.initial = initial

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")
        self.scale.assign(np.full(shape[-1], self.initial))

    def call(self, x):
        return x * self.scale


class Normalized(layers.Layer):
    """A layer with statistics, which no config can describe."""

    def __init__(self, function):
        super().__init__(name="normalized")
        self.function = function
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.norm.build(shape)

    def call(self, x, training=None):
        return self.function(self.norm(x, training=training))


@pytest.mark.filterwarnings("ignore:Layer 'normalized")
def test_a_model_that_cannot_be_saved_is_searched_and_left_alone(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="conv")(inputs)
    x = layers.GlobalAveragePooling2D()(Normalized(lambda x: x)(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    before = values(model.variables)
    search = compiled(SearchModel(model, kdf.MACs(0.7)))
    fitted(search, epochs=1)
    assert search.plan().costs["macs"][1] <= 0.7 * kdf.count(model).macs
    for old, new in zip(before, values(model.variables), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(NotImplementedError, match="(?s)not be saved.*Normal"):
        search.save(tmp_path / "search.keras")


@pytest.mark.filterwarnings("ignore:Layer 'scaled")
def test_a_layer_that_cannot_be_copied_stays_as_it_is():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="conv")(inputs)
    scaled = Scaled(2.0)
    x = layers.GlobalAveragePooling2D()(scaled(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    search = compiled(SearchModel(model, kdf.MACs(0.7)))
    fitted(search, epochs=1)
    assert scaled.trainable and scaled.scale.trainable
    np.testing.assert_array_equal(array(scaled.scale), 2.0)
    names = [variable.name for variable in search.trainable_variables]
    assert names == ["thresholds"]
    count = len(search.trainable_variables + search.non_trainable_variables)
    assert count == len(search.variables)


def test_thresholds_that_an_average_took_too_far_are_read_as_the_bound():
    search = SearchModel(small_network(), kdf.MACs(0.6))
    search.thresholds.assign(np.full(search.thresholds.shape, 0.0))
    expected = search.plan()
    search.thresholds.assign(np.full(search.thresholds.shape, -0.02))
    assert search.plan() == expected


def test_a_plan_during_training():
    search = compiled(SearchModel(small_network(), kdf.MACs(0.6)))
    costs = []

    def look(batch, logs):
        costs.append(search.plan().costs["macs"])

    x, y = separable_data()
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=look)
    search.fit(x, y, batch_size=64, verbose=0, callbacks=[callback])
    assert len(costs) > 1
    assert all(after <= 0.6 * before for before, after in costs)


@pytest.mark.parametrize("floatx", ["float64", "float16"])
def test_constants_of_another_type_are_refused(floatx):
    model = small_network()
    keras.config.set_floatx(floatx)
    try:
        with pytest.raises(ValueError, match=f"set_floatx.*'{floatx}'"):
            SearchModel(model, kdf.MACs(0.6))
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize("policy", ["float64", "bfloat16"])
def test_steps_are_counted_under_any_policy(policy):
    keras.config.set_dtype_policy(policy)
    try:
        search = SearchModel(small_network(), kdf.MACs(0.5))
        search.schedule.step.assign(256)
        search.schedule.advance()
        assert search.schedule.count() == 257
        search(np.zeros((1, 8, 8, 3)), training=True)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("factor", [1 / 127.5, np.ones(3, "float32")])
def test_inputs_that_the_model_scales_itself(factor):
    inputs = keras.Input((8, 8, 3))
    outputs = small_network()(keras.ops.multiply(inputs, factor))
    search = compiled(SearchModel(keras.Model(inputs, outputs), kdf.MACs(0.7)))
    fitted(search, epochs=1)
    assert search.plan().layers


@pytest.mark.filterwarnings("error")
def test_masks_pass_through_wrapped_layers():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 8, mask_zero=True)(inputs)
    x = layers.GlobalAveragePooling1D()(layers.Dense(8)(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    search = SearchModel(model, kdf.MACs(0.8))
    tokens = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 0]])
    np.testing.assert_allclose(
        array(search(tokens)), array(model(tokens)), atol=1e-4
    )


def test_a_plan_says_that_the_search_was_not_trained_by_fit():
    search = compiled(kdf.SearchModel(small_network(), kdf.MACs(0.6)))
    assert WITHOUT_FIT not in search.plan().notes
    x, y = separable_data()
    search.train_on_batch(x, y)
    assert WITHOUT_FIT in search.plan().notes
    search.fit(x, y, epochs=1, verbose=0)
    assert WITHOUT_FIT not in search.plan().notes
