import keras
import numpy as np
import pytest
from keras import layers
from probability_helpers import centered
from probability_helpers import softmax
from search_helpers import separable_data
from search_helpers import small_network
from search_helpers import values

import keras_df as kdf
from keras_df.surgery.distilled import Distilled
from keras_df.surgery.matching import match_outputs

LOSS = "sparse_categorical_crossentropy"


def regressor(units=8, regularizer=None):
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(units, kernel_regularizer=regularizer),
            layers.Dense(2),
        ]
    )


def regression_data(samples=12):
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(samples, 5)).astype("float32"),
        rng.normal(size=(samples, 2)).astype("float32"),
    )


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def predictions(model, x):
    return np.asarray(model.predict(x, verbose=0), float)


def first_loss(student, data, loss, **options):
    """The loss of the first batch, which fine-tuning reports."""
    count = len(data[0])
    history = kdf.fine_tune(
        student, data, loss, epochs=1, batch_size=count, verbose=0, **options
    )
    return history.history["loss"][0]


def test_distillation_is_half_of_the_loss():
    student, teacher = regressor(), regressor(16)
    x, y = regression_data()
    own, other = predictions(student, x), predictions(teacher, x)
    expected = (np.mean((own - y) ** 2) + np.mean((own - other) ** 2)) / 2
    actual = first_loss(student, (x, y), "mse", teacher=teacher)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_probabilities_are_taught_by_their_logits():
    student, teacher = (
        keras.Sequential([keras.Input((5,)), layers.Dense(3, "softmax")])
        for _ in range(2)
    )
    x, _ = regression_data()
    y = np.arange(len(x)) % 3
    own, other = predictions(student, x), predictions(teacher, x)
    hard = -np.log(own[np.arange(len(y)), y]).mean()
    soft = np.mean((centered(np.log(own)) - centered(np.log(other))) ** 2)
    actual = first_loss(student, (x, y), LOSS, teacher=teacher)
    np.testing.assert_allclose(actual, (hard + soft) / 2, rtol=1e-4)


def test_another_distillation_loss():
    student = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    teacher = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    x, _ = regression_data()
    y = np.arange(len(x)) % 3
    own, other = predictions(student, x), predictions(teacher, x)
    hard = -np.log(softmax(own)[np.arange(len(y)), y]).mean()
    p, q = softmax(other / 4), softmax(own / 4)
    soft = 16 * (p * np.log(p / q)).sum(1).mean()
    actual = first_loss(
        student,
        (x, y),
        cross_entropy(),
        teacher=teacher,
        distillation=keras.distillation.LogitsDistillation(
            4.0, keras.losses.KLDivergence()
        ),
    )
    np.testing.assert_allclose(actual, (hard + soft) / 2, rtol=1e-5)


def test_sample_weights_and_regularizers_count_with_a_teacher():
    student = regressor(regularizer=keras.regularizers.L2(0.1))
    teacher = regressor(regularizer=keras.regularizers.L2(3.0))
    x, y = regression_data()
    weights = np.linspace(0, 2, len(x)).astype("float32")
    own, other = predictions(student, x), predictions(teacher, x)
    kernel = np.asarray(student.layers[0].kernel)
    expected = np.mean(weights * np.mean((own - y) ** 2, 1))
    expected += 0.1 * np.sum(kernel**2) + np.mean((own - other) ** 2)
    actual = first_loss(student, (x, y, weights), "mse", teacher=teacher)
    np.testing.assert_allclose(actual, expected / 2, rtol=1e-5)


def test_validation_is_about_the_data_alone():
    student, teacher = regressor(), regressor(16)
    x, y = regression_data()
    history = kdf.fine_tune(
        student,
        (x, y),
        "mse",
        epochs=1,
        teacher=teacher,
        validation_data=(x, y),
        verbose=0,
    ).history
    expected = np.mean((predictions(student, x) - y) ** 2)
    np.testing.assert_allclose(history["val_loss"][0], expected, rtol=1e-5)


def test_the_teacher_is_not_modified():
    student, teacher = small_network(), small_network()
    teacher.layers[1].trainable = False
    before = values(teacher.variables)
    flags = [v.trainable for v in teacher.variables]
    kdf.fine_tune(
        student, separable_data(), cross_entropy(), teacher=teacher, verbose=0
    )
    for old, new in zip(before, values(teacher.variables), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [v.trainable for v in teacher.variables] == flags
    assert teacher.trainable and not teacher.compiled


@pytest.mark.parametrize("taught", [False, True])
def test_the_model_itself_learns_and_is_compiled(taught):
    student = small_network()
    x, y = separable_data()
    teacher = small_network() if taught else None
    if taught:
        kdf.fine_tune(teacher, (x, y), cross_entropy(), epochs=10, verbose=0)
        kdf.recalibrate(teacher, x)
    variables = student.trainable_variables
    kdf.fine_tune(
        student,
        (x, y),
        cross_entropy(),
        epochs=10,
        teacher=teacher,
        metrics=["accuracy"],
        verbose=0,
    )
    kdf.recalibrate(student, x)
    scores = student.evaluate(x, y, verbose=0, return_dict=True)
    assert scores["accuracy"] > 0.9
    assert all(a is b for a, b in zip(student.trainable_variables, variables))
    assert all(variable.trainable for variable in variables)
    # Trained further, from the learning rate that its user compiles it with.
    before = values(variables)
    student.compile("sgd", cross_entropy())
    student.fit(x, y, verbose=0)
    assert np.abs(before[0] - values(variables)[0]).max() > 0


def test_frozen_layers_stay_frozen():
    student, teacher = small_network(), small_network()
    student.get_layer("stem").trainable = False
    before = values(student.get_layer("stem").variables)
    kdf.fine_tune(
        student, separable_data(), cross_entropy(), teacher=teacher, verbose=0
    )
    after = values(student.get_layer("stem").variables)
    np.testing.assert_array_equal(before[0], after[0])
    assert not student.get_layer("stem").trainable


def test_the_learning_rate_rises_and_falls_over_all_steps():
    student = regressor()
    kdf.fine_tune(
        student,
        regression_data(40),
        "mse",
        epochs=10,
        learning_rate=0.1,
        batch_size=10,
        verbose=0,
    )
    config = student.optimizer.get_config()["learning_rate"]
    schedule = keras.optimizers.schedules.deserialize(config)
    # 40 steps, 2 of which warm up.
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(39) / 38))
    np.testing.assert_allclose(
        [float(schedule(step)) for step in range(41)],
        [0.0, 0.05, *cosine],
        atol=1e-6,
    )
    assert int(student.optimizer.iterations) == 40


def multi_output():
    inputs = keras.Input((5,))
    x = layers.Dense(8)(inputs)
    return keras.Model(
        inputs, [layers.Dense(2, name="a")(x), layers.Dense(3, name="b")(x)]
    )


@pytest.mark.parametrize("taught", [False, True])
def test_several_outputs_with_losses_and_metrics_by_name(taught):
    student = multi_output()
    teacher = multi_output() if taught else None
    x, y = regression_data()
    labels = np.arange(len(x)) % 3
    a, b = (np.asarray(out, float) for out in student(x))
    chosen = softmax(b)[np.arange(len(x)), labels]
    expected = np.mean((a - y) ** 2) - np.log(chosen).mean()
    if taught:
        others = [np.asarray(out, float) for out in teacher(x)]
        expected += sum(np.mean((o - s) ** 2) for o, s in zip(others, (a, b)))
        expected /= 2
    actual = first_loss(
        student,
        (x, {"a": y, "b": labels}),
        {"a": "mse", "b": cross_entropy()},
        teacher=teacher,
        metrics={"b": "accuracy"},
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        x, y = regression_data()
        return x[index::3], y[index::3]


class CountedBatches(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return 3

    def __getitem__(self, index):
        return Batches()[index]


def endless():
    while True:
        yield Batches()[0]


@pytest.mark.parametrize(
    "data, options",
    [
        (Batches(), {}),
        (CountedBatches(), {}),
        (endless(), {"steps_per_epoch": 3}),
    ],
    ids=["sequence", "counted", "generator"],
)
def test_any_data_that_fit_takes(data, options):
    student, teacher = regressor(), regressor(16)
    kdf.fine_tune(
        student, data, "mse", epochs=2, teacher=teacher, verbose=0, **options
    )
    assert int(student.optimizer.iterations) == 6


def test_data_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match="steps_per_epoch"):
        kdf.fine_tune(regressor(), endless(), "mse")


def test_an_empty_data_set_is_refused():
    x, y = regression_data()
    with pytest.raises(ValueError, match="The data set is empty"):
        kdf.fine_tune(regressor(), (x[:0], y[:0]), "mse")


@pytest.mark.parametrize(
    "distillation, error, message",
    [
        ("mse", TypeError, "`keras.distillation.DistillationLoss`.*'mse'"),
        (
            keras.distillation.FeatureDistillation("mse", "a", "b"),
            ValueError,
            "FeatureDistillation of layers inside",
        ),
    ],
)
def test_distillation_of_other_kinds_is_refused(distillation, error, message):
    student, teacher = regressor(), regressor(16)
    with pytest.raises(error, match=message):
        kdf.fine_tune(
            student,
            regression_data(),
            "mse",
            teacher=teacher,
            distillation=distillation,
        )
    assert not student.compiled


def test_a_checkpoint_keeps_the_model_alone(tmp_path):
    student, teacher = regressor(), regressor(16)
    x, y = regression_data()
    path = tmp_path / "best.keras"
    kdf.fine_tune(
        student,
        (x, y),
        "mse",
        epochs=1,
        teacher=teacher,
        verbose=0,
        callbacks=[keras.callbacks.ModelCheckpoint(path)],
    )
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(
        predictions(loaded, x), predictions(student, x), rtol=1e-6
    )


def test_a_compressed_network_learns_from_its_original():
    x, y = separable_data()
    model = small_network()
    kdf.fine_tune(model, (x, y), cross_entropy(), epochs=10, verbose=0)
    kdf.recalibrate(model, x)
    plan = kdf.baselines.magnitude(model, kdf.MACs(0.3))
    small = kdf.compress(model, plan)
    kdf.recalibrate(small, x)
    before = np.abs(predictions(small, x) - predictions(model, x)).mean()
    kdf.fine_tune(
        small, (x, y), cross_entropy(), epochs=20, teacher=model, verbose=0
    )
    kdf.recalibrate(small, x)
    after = np.abs(predictions(small, x) - predictions(model, x)).mean()
    assert after < before / 2


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        student, teacher = small_network(), small_network()
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = separable_data()
    kdf.fine_tune(student, (x, y), cross_entropy(), teacher=teacher, verbose=0)
    assert np.isfinite(predictions(student, x)).all()
    assert isinstance(student.optimizer, keras.optimizers.LossScaleOptimizer)
    assert int(student.optimizer.iterations) == 15


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate=nan"),
        ({"teacher": "model"}, TypeError, "`teacher`"),
        ({"distillation": 1}, ValueError, "as `teacher`"),
        ({"teacher": multi_output}, ValueError, "outputs"),
        ({"teacher": small_network}, ValueError, "inputs"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_done(
    options, error, message
):
    student = regressor()
    if callable(options.get("teacher")):
        options = {"teacher": options["teacher"]()}
    with pytest.raises(error, match=message):
        kdf.fine_tune(student, regression_data(), "mse", **options)
    assert not student.compiled


def test_something_else_than_a_model_is_refused():
    with pytest.raises(TypeError, match="`model`"):
        kdf.fine_tune("model", regression_data(), "mse")


def test_only_the_student_is_trainable():
    student, teacher = regressor(), regressor(16)
    distilled = Distilled(student, teacher, match_outputs(student, teacher))
    assert len(distilled.trainable_variables) == 4
    assert len(distilled.non_trainable_variables) == 4


def test_a_training_that_diverged_is_not_passed_over():
    x, y = regression_data()
    with pytest.raises(FloatingPointError, match="learning_rate=1000000"):
        kdf.fine_tune(
            regressor(), (x, y), "mse", learning_rate=1e6, epochs=9, verbose=0
        )


def test_a_single_output_in_a_list_has_a_teacher():
    x, y = regression_data()
    student, teacher = (
        keras.Model(model.inputs, model.outputs)
        for model in (regressor(), regressor(16))
    )
    own, other = predictions(student, x), predictions(teacher, x)
    expected = (np.mean((own - y) ** 2) + np.mean((own - other) ** 2)) / 2
    actual = first_loss(student, (x, y), "mse", teacher=teacher)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_inputs_of_a_mixed_network_keep_their_precision():
    """Its first layer may be there to scale them, in float32."""

    def shifted():
        inputs = keras.Input((3,), dtype="float32")
        scale = layers.Rescaling(1.0, -1000.0, dtype="float32")
        x = layers.Dense(1, kernel_initializer="ones")(scale(inputs))
        return keras.Model(inputs, layers.Activation("linear")(x))

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        student, teacher = shifted(), shifted()
    finally:
        keras.config.set_dtype_policy("float32")
    x = 1000 + np.random.default_rng(0).integers(-8, 8, (16, 3)) / 8
    y = np.sum(x - 1000, 1, keepdims=True)
    loss = first_loss(
        student, (x, y), "mse", teacher=teacher, learning_rate=1e-9
    )
    assert loss < 1e-3


def test_the_learning_rate_falls_to_zero_from_an_initial_epoch_on():
    model = regressor()
    kdf.fine_tune(
        model, regression_data(64), "mse", epochs=5, initial_epoch=2, verbose=0
    )
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    assert int(model.optimizer.iterations) == 6
    assert rate == pytest.approx(0, abs=1e-6)


def test_a_step_that_fails_leaves_the_teacher_as_it_is():
    class Failing(keras.distillation.FeatureDistillation):
        def compute_loss(self, *args, **kwargs):
            raise KeyboardInterrupt

    student, teacher = regressor(), regressor(16)
    x, y = regression_data()
    before = predictions(teacher, x)
    with pytest.raises(KeyboardInterrupt):
        kdf.fine_tune(
            student, (x, y), "mse", teacher=teacher, distillation=Failing("mse")
        )
    np.testing.assert_array_equal(predictions(teacher, x), before)
