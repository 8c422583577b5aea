"""Searches in every kind of job that `fit` does.

Where a job should change nothing, its numbers are compared with a search
that does without it. Where a job is new to the search, half of the filters
are idle: a search that works finds them, and what it leaves computes the
same.
"""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers
from search_helpers import compiled
from search_helpers import separable_data
from search_helpers import small_network
from search_helpers import values

import keras_df as kdf
from keras_df.graph import analyze

IS_TENSORFLOW = keras.config.backend() == "tensorflow"
only_tensorflow = pytest.mark.skipif(
    not IS_TENSORFLOW, reason="written for TensorFlow"
)


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def rested(model, *heads):
    """Lets every second filter of a model idle; returns the others' units.

    What the heads read counts tenfold, for a loss that is worth protecting.
    """
    for name in heads:
        kernel = model.get_layer(name).kernel
        kernel.assign(10.0 * kernel)
    graph = analyze(model)
    prunable = np.flatnonzero(graph.prunable)
    for node in graph.kernels().values():
        axis, ids = node.kernel.inputs
        variable = getattr(node.operation, node.kernel.attribute)
        kernel = np.moveaxis(array(variable).copy(), axis, 0)
        kernel[np.isin(graph.units[ids], prunable[::2])] = 0.0
        variable.assign(np.moveaxis(kernel, 0, axis))
    return prunable[1::2]


def images(samples=48, size=8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(samples, size, size, 3)).astype("float32")


def pruning(model, budget=0.6):
    constraints = kdf.Constraints(decompose=False)
    return kdf.SearchModel(model, kdf.MACs(budget), constraints)


def check_that_idle_filters_go(model, search, busy, x, budget=0.6):
    plan = search.plan()
    assert plan.selection(analyze(model)).kept[busy].all()
    small = kdf.compress(model, plan)
    kdf.recalibrate(small, x, steps=2)
    assert kdf.count(small).macs <= budget * kdf.count(model).macs
    for old, new in zip(
        keras.tree.flatten(model(x[:8], training=False)),
        keras.tree.flatten(small(x[:8], training=False)),
    ):
        np.testing.assert_allclose(array(new), array(old), atol=1e-4)


@contextlib.contextmanager
def untouched(model):
    before, flags = values(model.variables), _flags(model)
    yield
    for old, new in zip(before, values(model.variables), strict=True):
        np.testing.assert_array_equal(old, new)
    assert _flags(model) == flags


def _flags(model):
    return [(x.name, x.trainable) for x in model._flatten_layers()]


def test_regression():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    x = layers.Dense(12, activation="relu", name="hidden")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(2, name="value")(x))
    busy, x = rested(model, "value"), images()
    search = pruning(model)
    search.compile(keras.optimizers.Adam(2.5e-2), "mse", metrics=["mae"])
    with untouched(model):
        search.fit(x, array(model(x)), batch_size=8, epochs=6, verbose=0)
        check_that_idle_filters_go(model, search, busy, x)


def u_net():
    inputs = keras.Input((8, 8, 3))

    def conv(x, filters, name):
        options = {"padding": "same", "activation": "relu", "name": name}
        return layers.Conv2D(filters, 3, **options)(x)

    fine = conv(inputs, 6, "fine")
    middle = conv(layers.MaxPooling2D()(fine), 8, "middle")
    x = conv(layers.MaxPooling2D()(middle), 12, "coarse")
    x = layers.Conv2DTranspose(8, 2, strides=2, name="up")(x)
    x = conv(layers.Concatenate()([x, middle]), 8, "middle_again")
    x = layers.UpSampling2D()(x)
    x = conv(layers.Concatenate()([x, fine]), 6, "fine_again")
    return keras.Model(inputs, layers.Conv2D(3, 1, name="classes")(x))


def test_segmentation_with_weights_for_every_pixel():
    keras.utils.set_random_seed(1)
    model = u_net()
    rested(model, "classes")
    x = images()
    truth = array(keras.ops.softmax(model(x)))
    search = pruning(model)
    search.compile(
        keras.optimizers.Adam(2.5e-2),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
    )
    with untouched(model):
        search.fit(
            x,
            truth,
            sample_weight=np.where(truth[..., 0] > 0.5, 1.5, 1.0),
            batch_size=8,
            epochs=8,
            verbose=0,
        )
        plan = search.plan()
    assert plan.costs["macs"][1] <= 0.6 * plan.costs["macs"][0]

    def wrong(plan):
        labels = array(kdf.compress(model, plan)(x)).argmax(-1)
        return (labels != truth.argmax(-1)).mean()

    by_norm = kdf.baselines.magnitude(model, kdf.MACs(0.6))
    assert wrong(plan) < 0.7 * wrong(by_norm)


def detector(named=True):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="conv1")(inputs)
    x = layers.Conv2D(8, 3, activation="relu", name="conv2")(x)
    x = layers.Flatten()(x)
    box = layers.Dense(4, name="box")(x)
    kind = layers.Dense(3, name="kind")(x)
    outputs = {"box": box, "kind": kind} if named else [box, kind]
    return keras.Model(inputs, outputs)


def detecting(search, **options):
    search.compile(
        keras.optimizers.Adam(2.5e-2),
        loss={
            "box": "mse",
            "kind": keras.losses.SparseCategoricalCrossentropy(
                from_logits=True
            ),
        },
        metrics={"box": ["mae"], "kind": ["accuracy"]},
        **options,
    )
    return search


def boxes_and_kinds(model, x):
    outputs = model(x)
    if isinstance(outputs, (list, tuple)):
        outputs = dict(zip(("box", "kind"), outputs))
    return {
        "box": array(outputs["box"]),
        "kind": array(outputs["kind"]).argmax(-1),
    }


@pytest.mark.parametrize("named", [True, False], ids=["dict", "list"])
def test_several_outputs_with_losses_and_metrics_by_name(named):
    model = detector(named)
    busy, x = rested(model, "box", "kind"), images()
    targets = boxes_and_kinds(model, x)
    if not named:
        targets = list(targets.values())
    search = detecting(pruning(model), loss_weights={"box": 4.0, "kind": 0.5})
    with untouched(model):
        history = search.fit(x, targets, batch_size=8, epochs=8, verbose=0)
        check_that_idle_filters_go(model, search, busy, x)
    names = {"box_loss", "kind_loss", "box_mae", "kind_accuracy", "macs"}
    assert names <= set(history.history)


def searched(search, x, y, batch_size=32, epochs=2, **options):
    """The masks and thresholds after a search in a fixed order."""
    keras.utils.set_random_seed(3)
    search.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **options,
    )
    return values(search.trainable_variables)


@pytest.fixture(scope="module")
def plain():
    """The result of a search without anything special."""
    return searched(compiled(network_search()), *separable_data())


def network_search(kind=kdf.SearchModel, budget=0.6, **options):
    keras.utils.set_random_seed(2)
    return kind(small_network(), kdf.MACs(budget), **options)


def assert_alike(one, other, atol=1e-5):
    for a, b in zip(one, other, strict=True):
        assert a.min() < 0.99 or a.max() > 0.01  # It did move.
        np.testing.assert_allclose(a, b, atol=atol)


def assert_different(one, other):
    assert max(np.abs(a - b).max() for a, b in zip(one, other)) > 1e-3


def test_weights_of_samples_by_output():
    """Samples that do not count are as an output that does not."""
    keras.utils.set_random_seed(2)
    model, x = detector(), images()
    targets = boxes_and_kinds(model, x)
    targets["box"] = 3 * targets["box"]  # A loss that has a say.
    weights = {"box": np.zeros(48), "kind": np.ones(48)}
    without = detecting(
        kdf.SearchModel(model, kdf.MACs(0.6)),
        loss_weights={"box": 0.0, "kind": 1.0},
    )
    weighted = detecting(kdf.SearchModel(model, kdf.MACs(0.6)))
    plain = detecting(kdf.SearchModel(model, kdf.MACs(0.6)))
    results = [
        searched(without, x, targets),
        searched(weighted, x, targets, sample_weight=weights),
        searched(plain, x, targets),
    ]
    assert_alike(*results[:2])
    assert_different(*results[1:])


def test_weights_of_classes(plain):
    x, y = separable_data()
    weights = {0: 3.0, 1: 1.0, 2: 0.2}
    by_class = searched(compiled(network_search()), x, y, class_weight=weights)
    by_sample = searched(
        compiled(network_search()),
        x,
        y,
        sample_weight=np.array([weights[label] for label in y]),
    )
    assert_alike(by_class, by_sample)
    assert_different(by_class, plain)


class Seen(keras.metrics.Metric):
    """Counts samples."""

    def __init__(self, name="seen"):
        super().__init__(name=name)
        self.count = self.add_weight(shape=(), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        count = keras.ops.shape(y_pred)[0]
        self.count.assign_add(keras.ops.cast(count, "float32"))

    def result(self):
        return keras.ops.convert_to_tensor(self.count)


def largest_logit(y_true, y_pred):
    return keras.ops.max(y_pred, axis=-1)


def test_metrics_of_ones_own():
    x, y = separable_data()
    search = network_search()
    search.compile(
        keras.optimizers.Adam(2.5e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[Seen(), largest_logit],
    )
    history = search.fit(x, y, batch_size=32, epochs=2, verbose=0).history
    assert history["seen"] == [96, 96]
    shown = search.evaluate(x, y, verbose=0, return_dict=True)
    expected = array(search(x, training=False)).max(-1).mean()
    assert shown["largest_logit"] == pytest.approx(expected, abs=1e-4)


class OwnStep(kdf.SearchModel):
    """The training step of Keras's guide on customizing `fit`."""

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


class OwnLoss(kdf.SearchModel):
    """Counts large outputs as well."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + keras.ops.mean(keras.ops.square(y_pred))


@only_tensorflow
def test_a_training_step_of_ones_own(plain):
    search = compiled(network_search(OwnStep))
    assert_alike(searched(search, *separable_data()), plain)
    cost = float(array(search.shares)[0])
    assert search.history.history["macs"][-1] == pytest.approx(cost)


def test_a_loss_of_ones_own(plain):
    search = compiled(network_search(OwnLoss))
    assert_different(searched(search, *separable_data()), plain)
    costs = search.plan().costs["macs"]
    assert costs[1] <= 0.6 * costs[0]


class Recorder(keras.callbacks.Callback):
    """Keeps the logits after each batch."""

    def __init__(self):
        super().__init__()
        self.logits = []

    def on_train_batch_end(self, batch, logs=None):
        self.model.synchronize()
        self.logits.append(array(self.model.logits).copy())


def test_gradient_accumulation():
    """Masks move with every third batch; the schedule counts batches."""
    x, y = separable_data()
    search = network_search()
    search.compile(
        keras.optimizers.Adam(2.5e-2, gradient_accumulation_steps=3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    recorder = Recorder()
    searched(search, x, y, 8, epochs=4, callbacks=[recorder])
    moved = [
        np.any(a != b) for a, b in zip(recorder.logits, recorder.logits[1:])
    ]
    assert moved == [(step + 2) % 3 == 0 for step in range(47)]
    assert float(array(search.schedule.step)) == 48
    assert float(array(search.schedule.horizon)) == 48
    costs = search.plan().costs["macs"]
    assert 0.5 * costs[0] <= costs[1] <= 0.6 * costs[0]


@contextlib.contextmanager
def policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(name, plain):
    x, y = separable_data()
    keras.utils.set_random_seed(2)
    with policy(name):
        model = small_network()
    search = compiled(kdf.SearchModel(model, kdf.MACs(0.6)))
    with untouched(model):
        found = searched(search, x, y)
    # Adam's first steps are all of one size, so signs are what may differ.
    difference = max(np.abs(a - b).mean() for a, b in zip(found, plain))
    assert difference < 0.03
    assert {v.dtype for v in search.trainable_variables} == {"float32"}
    scaled = isinstance(search.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (name == "mixed_float16")
    small = kdf.compress(model, search.plan())
    assert small.get_layer("stem_bn").compute_dtype == name.split("_")[1]
    kdf.recalibrate(small, x, steps=2)
    assert np.isfinite(array(small(x)).astype("float32")).all()
    assert kdf.count(small).macs <= 0.6 * kdf.count(model).macs


def test_a_scaled_loss_survives_a_file(tmp_path):
    with policy("mixed_float16"):
        search = compiled(network_search())
    search.save(tmp_path / "search.keras")
    loaded = keras.models.load_model(tmp_path / "search.keras")
    assert type(loaded.optimizer) is type(search.optimizer)
    assert type(loaded.optimizer.inner_optimizer) is keras.optimizers.Adam


def test_several_steps_per_execution():
    """Batches come in jumps; vectors are renewed as often as without."""
    x, y = separable_data()
    config = kdf.SearchConfig(refresh_steps=4)
    at_once = network_search(config=config)
    one_by_one = network_search(config=config)
    jumps = searched(compiled(at_once, steps_per_execution=4), x, y, 8)
    assert_alike(jumps, searched(compiled(one_by_one), x, y, 8))
    assert float(array(at_once.schedule.step)) == 24
    assert at_once.plan().layers == one_by_one.plan().layers


def test_more_steps_per_execution_than_between_refreshes():
    x, y = separable_data()
    search = network_search(config=kdf.SearchConfig(refresh_steps=2))
    seen = []
    refresh = search.relaxation.refresh
    search.relaxation.refresh = lambda *args: seen.append(refresh(*args))
    searched(compiled(search, steps_per_execution=6), x, y, 8)
    # Before the first step, twice an epoch, and when training ends.
    assert len(seen) == 1 + 2 * 2 + 1
    costs = search.plan().costs["macs"]
    assert costs[1] <= 0.6 * costs[0]


@pytest.mark.parametrize(
    "options",
    [
        {"run_eagerly": True},
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
    ],
    ids=["eager", "xla"],
)
def test_ways_to_run(options, plain):
    search = compiled(network_search(), **options)
    assert_alike(searched(search, *separable_data()), plain, 1e-3)


def settled(search):
    """What neither evaluation nor prediction may change."""
    kept = [search.schedule.step, search.schedule.horizon, search.start]
    return values(
        [
            *kept,
            *search.trainable_variables,
            *search.network.variables,
            *search.relaxation.variables,
        ]
    )


def test_evaluation_and_prediction_change_nothing():
    x, y = separable_data()
    search = compiled(network_search())
    searched(search, x, y)
    before = settled(search)
    first = search.evaluate(x, y, verbose=0, return_dict=True)
    predicted = search.predict(x, verbose=0)
    assert search.evaluate(x, y, verbose=0, return_dict=True) == first
    for old, new in zip(before, settled(search), strict=True):
        np.testing.assert_array_equal(old, new)
    outputs = search(x, training=False)
    np.testing.assert_allclose(predicted, array(outputs), atol=1e-4)
    # The loss is the compiled one, without the distance to the budget.
    assert first["loss"] == pytest.approx(
        float(array(search.compute_loss(y=y, y_pred=outputs))), abs=1e-4
    )
    cost = array(search.relax()[-1])
    assert first["macs"] == pytest.approx(float(cost[0]), abs=1e-6)


def test_validation_leaves_the_search_as_it_is(plain):
    x, y = separable_data()
    validated = compiled(network_search())
    found = searched(validated, x, y, validation_data=(x[:48], y[:48]))
    assert_alike(found, plain, atol=0)
    assert float(array(validated.schedule.step)) == 6
    history = validated.history.history
    assert history["val_macs"][-1] == float(array(validated.shares)[0])
    assert history["val_loss"][-1] < history["loss"][-1]


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


def test_a_search_that_is_stopped_has_a_plan_that_says_so():
    x, y = separable_data()
    search = compiled(network_search(budget=0.4))
    searched(search, x, y, epochs=10, callbacks=[Stop()])
    assert float(array(search.schedule.step)) == 6
    assert float(array(search.schedule.horizon)) == 30
    plan = search.plan()
    assert plan.costs["macs"][1] <= 0.4 * plan.costs["macs"][0]
    assert "more steps would bring them together" in plan.summary()
    # It goes on where it stood.
    searched(search, x, y, epochs=8, callbacks=[kdf.DFCallback(30)])
    assert float(array(search.schedule.step)) == 30


def test_the_best_weights_are_a_whole_state():
    """What comes back is masks, thresholds and the schedule, together."""
    x, y = separable_data()
    search = compiled(network_search())
    recorder = Recorder()
    stopping = keras.callbacks.EarlyStopping(
        monitor="loss", patience=2, restore_best_weights=True
    )
    searched(search, x, y, epochs=8, callbacks=[recorder, stopping])
    # The loss rises while the budget falls: the first epoch has the best.
    assert len(recorder.logits) == 9
    np.testing.assert_array_equal(array(search.logits), recorder.logits[2])
    assert float(array(search.schedule.step)) == 3
    plan = search.plan()
    assert plan.costs["macs"][1] <= 0.6 * plan.costs["macs"][0]
    assert "more steps would bring them together" in plan.summary()


def test_schedules_of_the_learning_rate():
    x, y = separable_data()
    search = compiled(network_search(), learning_rate=5e-2)
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    # The loss rises while the budget falls.
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", patience=1, factor=0.1
    )
    searched(search, x, y, epochs=3, callbacks=[halved, plateau])
    rates = search.history.history["learning_rate"]
    np.testing.assert_allclose(rates, [0.025, 0.0125, 0.000625], rtol=1e-5)
    assert float(array(search.schedule.horizon)) == 9


def test_a_list_of_callbacks_that_keras_made(plain):
    x, y = separable_data()
    search = compiled(network_search())
    callbacks = keras.callbacks.CallbackList(
        [], add_history=True, model=search, epochs=2, steps=3
    )
    assert_alike(searched(search, x, y, callbacks=callbacks), plain)
