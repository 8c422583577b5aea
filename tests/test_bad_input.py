"""Nonsense is refused: the right error, the offender named, nothing lost.

Each row of the tables is what a user might type, the error that answers, and
words that its message must hold: the offender, the value, the way out.
"""

import dataclasses
import errno
import json
import os

import keras
import numpy as np
import pytest
from keras import layers
from search_helpers import compiled
from search_helpers import separable_data
from search_helpers import values

import keras_df as kdf
from keras_df import baselines
from keras_df import export
from keras_df.graph import analyze

IS_TENSORFLOW = keras.config.backend() == "tensorflow"
NAN, INF = float("nan"), float("inf")


def network():
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    y = layers.Conv2D(8, 3, padding="same", name="inner")(x)
    x = layers.Add(name="add")([x, y])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x), name="net")


def latency_table():
    times = [0.1, 0.01, 0.02, 1.0]
    entry = {"dense": times, "1": [times, times], "2": [times, times]}
    names = ("stem", "inner", "hidden", "logits")
    return kdf.LatencyTable(
        kernels=dict.fromkeys(names, entry),
        operators={},
        per_flop=1e-4,
        fixed=3.0,
        tile=16,
    )


class Bench:
    """What the rows work on; `folder` is empty at first."""

    def __init__(self, folder):
        self.folder = folder
        self.model = network()
        self.model.compile("sgd", "mse")
        self.model.get_layer("hidden").trainable = False
        self.plan = baselines.random(self.model, kdf.MACs(0.6))
        self.x, self.y = separable_data(32)
        self.table = latency_table()

    def search(self, budget=None, **options):
        return kdf.SearchModel(self.model, budget or kdf.MACs(0.6), **options)

    def fit(self, *args, **options):
        search = compiled(self.search())
        return search.fit(*args, **{"verbose": 0, **options})

    def compress(self, **options):
        return kdf.compress(self.model, self.plan, **options)

    def config(self, layer=None, **entries):
        """The plan's config with other entries, or those of one layer."""
        config = json.loads(json.dumps(self.plan.get_config()))
        (config["layers"][layer] if layer else config).update(entries)
        return config

    def load(self, **entries):
        return kdf.CompressionPlan.from_config(self.config(**entries))

    def holding(self, value):
        """The images with one value replaced."""
        x = self.x.copy()
        x[3, 2, 1, 0] = value
        return x

    def file(self, content, name="in.json"):
        """Path of a file outside of the folder that has to stay empty."""
        path = self.folder.parent / name
        path.write_bytes(
            content if type(content) is bytes else content.encode()
        )
        return path


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench") / "empty")


def state_of(model):
    return {
        "weights": [value.tobytes() for value in values(model.variables)],
        "layers": [(x.name, x.trainable) for x in model._flatten_layers()],
        "variables": [(x.path, x.trainable) for x in model.variables],
        "compiled": (model.compiled, id(model.optimizer), model.loss),
    }


def refused(bench, call, error, *words):
    """Runs a row; the message, once nothing is found to have changed."""
    bench.folder.mkdir(exist_ok=True)
    before = state_of(bench.model)
    with pytest.raises(error) as caught:
        call(bench)
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"
    assert state_of(bench.model) == before
    assert not os.listdir(bench.folder)
    return message


def table(*rows):
    """Parametrizes a test by rows of a name, a call, an error and words."""
    cases = [pytest.param(*row[1:3], row[3:], id=row[0]) for row in rows]
    return pytest.mark.parametrize("call, error, words", cases)


TAKES_MODEL = {
    "SearchModel": lambda b, m: kdf.SearchModel(m, kdf.MACs(0.6)),
    "compress": lambda b, m: kdf.compress(m, b.plan),
    "count": lambda b, m: kdf.count(m),
    "inspect": lambda b, m: kdf.inspect(m),
    "validate": lambda b, m: b.plan.validate(m),
    "analyze": lambda b, m: analyze(m),
    "magnitude": lambda b, m: baselines.magnitude(m, kdf.MACs(0.6)),
    "geometric_median": lambda b, m: baselines.geometric_median(
        m, kdf.MACs(0.6)
    ),
    "batch_norm_scale": lambda b, m: baselines.batch_norm_scale(
        m, kdf.MACs(0.6)
    ),
    "random": lambda b, m: baselines.random(m, kdf.MACs(0.6)),
    "uniform_rank": lambda b, m: baselines.uniform_rank(m, kdf.MACs(0.6)),
    "energy": lambda b, m: baselines.energy(m, kdf.MACs(0.6)),
}
EXPORTS = {
    "saved_model": lambda b, m: export.saved_model(m, b.folder / "out"),
    "litert": lambda b, m: export.litert(m, b.folder / "out.tflite"),
    "measure_latency": lambda b, m: export.measure_latency(
        m, b.folder / "t.json", verbose=False
    ),
}
if IS_TENSORFLOW:
    TAKES_MODEL.update(EXPORTS)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("name", TAKES_MODEL)
@pytest.mark.parametrize(
    "model", ["model.keras", None, keras.Model, layers.Dense(2), 3]
)
def test_what_is_no_model(bench, name, model):
    refused(
        bench,
        lambda bench: TAKES_MODEL[name](bench, model),
        TypeError,
        "Expected a `keras.Model`",
        "load_model",
        "Received",
    )


@pytest.mark.parametrize("name", TAKES_MODEL)
@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Subclassed(name="mine"), ("mine", "subclassed", "Functional")),
        (
            lambda: keras.Sequential([layers.Dense(3)], name="seq"),
            ("seq", "not built", "keras.Input"),
        ),
    ],
    ids=["subclassed", "unbuilt"],
)
def test_a_model_without_a_graph(bench, name, make, words):
    model = make()
    refused(
        bench,
        lambda bench: TAKES_MODEL[name](bench, model),
        ValueError,
        *words,
    )


@table(
    ("zero", lambda b: kdf.FLOPs(0), ValueError, "`FLOPs`", "positive", "0"),
    ("negative", lambda b: kdf.MACs(-0.5), ValueError, "`MACs`", "-0.5"),
    ("negative int", lambda b: kdf.Params(-8), ValueError, "`Params`", "-8"),
    ("nan", lambda b: kdf.FLOPs(NAN), ValueError, "finite", "nan"),
    ("numpy nan", lambda b: kdf.FLOPs(np.float32(NAN)), ValueError, "finite"),
    ("inf", lambda b: kdf.MACs(INF), ValueError, "finite", "inf"),
    ("-inf", lambda b: kdf.MACs(-INF), ValueError, "finite", "-inf"),
    ("too large", lambda b: kdf.MACs(10**400), ValueError, "finite"),
    ("text", lambda b: kdf.FLOPs("0.5"), TypeError, "FLOPs(0.5)", "'0.5'"),
    ("percent", lambda b: kdf.FLOPs("50%"), TypeError, "a share", "'50%'"),
    ("none", lambda b: kdf.MACs(None), TypeError, "`MACs`", "None"),
    ("bool", lambda b: kdf.Params(True), TypeError, "`Params`", "True"),
    ("numpy bool", lambda b: kdf.Params(np.True_), TypeError, "`Params`"),
    ("list", lambda b: kdf.FLOPs([0.5]), TypeError, "`FLOPs`", "[0.5]"),
    ("complex", lambda b: kdf.FLOPs(0.5j), TypeError, "`FLOPs`", "0.5j"),
    (
        "no table",
        lambda b: kdf.Latency(0.5, None),
        TypeError,
        "measure_latency",
    ),
    ("table path", lambda b: kdf.Latency(0.5, "t.json"), TypeError, "'t.json'"),
    ("late", lambda b: kdf.Latency(-1, b.table), ValueError, "`Latency`", "-1"),
    ("slow", lambda b: kdf.Latency("1ms", b.table), TypeError, "'1ms'"),
    ("a number", lambda b: b.search(0.5), TypeError, "FLOPs(0.5)", "0.5"),
    ("a name", lambda b: b.search("half"), TypeError, "`budget`", "'half'"),
    ("a dict", lambda b: b.search({"flops": 0.5}), TypeError, "`budget`"),
    ("the class", lambda b: b.search(kdf.FLOPs), TypeError, "`budget`"),
    (
        "a number among budgets",
        lambda b: b.search([kdf.FLOPs(0.5), 0.3]),
        TypeError,
        "`budget`",
        "0.3",
    ),
    (
        "no budget",
        lambda b: kdf.SearchModel(b.model, []),
        ValueError,
        "empty",
        "FLOPs(0.5)",
    ),
    (
        "unreachable",
        lambda b: b.search(kdf.MACs(1e-6)),
        ValueError,
        "cannot be reached",
        "the smallest is",
        "inspect",
    ),
    (
        "one of two unreachable",
        lambda b: b.search([kdf.MACs(0.5), kdf.Params(1e-4)]),
        ValueError,
        "params",
        "the smallest is",
    ),
    (
        "a percentage as an amount",
        lambda b: b.search(kdf.FLOPs(50)),
        ValueError,
        "absolute amount",
        "0.5, not 50",
    ),
    (
        "more than the whole as a share",
        lambda b: baselines.random(b.model, kdf.FLOPs(1.5)),
        ValueError,
        "absolute amount",
    ),
    (
        "unreachable for one kind of compression",
        lambda b: baselines.uniform_rank(b.model, kdf.MACs(0.05)),
        ValueError,
        "cannot be reached",
    ),
    (
        "inspect checks too",
        lambda b: kdf.inspect(b.model, kdf.MACs(1e-6)),
        ValueError,
        "cannot be reached",
    ),
    (
        "a table of another model",
        lambda b: b.search(
            kdf.Latency(0.6, dataclasses.replace(b.table, kernels={"conv": {}}))
        ),
        ValueError,
        "another model",
        "conv",
        "stem",
    ),
)
def test_budgets(bench, call, error, words):
    refused(bench, call, error, *words)


def constrained(**options):
    return lambda bench: bench.search(constraints=kdf.Constraints(**options))


def strided(layer):
    return layer.strides == 2


@table(
    ("prune", constrained(prune="no"), TypeError, "`prune`", "'no'"),
    ("decompose", constrained(decompose=0), TypeError, "`decompose`", "0"),
    (
        "nothing allowed",
        constrained(prune=False, decompose=False),
        ValueError,
        "Allow at least one",
    ),
    ("round_to", constrained(round_to=0), ValueError, "`round_to`", "0"),
    ("round_to float", constrained(round_to=8.0), ValueError, "`round_to`"),
    ("round_to text", constrained(round_to="8"), ValueError, "'8'"),
    ("round_to bool", constrained(round_to=True), ValueError, "True"),
    ("min", constrained(min_channels=-1), ValueError, "`min_channels`", "-1"),
    ("scheme", constrained(scheme=3), ValueError, "1, 2 or 'best'", "3"),
    ("scheme bool", constrained(scheme=True), ValueError, "`scheme`", "True"),
    ("scheme list", constrained(scheme=[1]), ValueError, "`scheme`", "[1]"),
    ("schemes", constrained(scheme={"stem": 0}), ValueError, "`scheme`", "0"),
    ("floors", constrained(floors=[0.5]), TypeError, "`floors`", "[0.5]"),
    ("floor", constrained(floors={"stem": 1.5}), ValueError, "1.5", "stem"),
    ("floor nan", constrained(floors={"stem": NAN}), ValueError, "nan", "stem"),
    ("floor text", constrained(floors={"stem": "a"}), ValueError, "'a'"),
    ("floor bool", constrained(floors={"stem": True}), ValueError, "True"),
    ("floor of 3", constrained(floors={3: 0.5}), TypeError, "`floors`", "3"),
    ("caps", constrained(caps=0.5), TypeError, "`caps`", "0.5"),
    ("cap of none", constrained(caps={"stem": 0}), ValueError, "`caps`"),
    ("skip a number", constrained(skip=5), TypeError, "`skip`", "5"),
    ("skip none", constrained(skip=None), TypeError, "`skip`", "None"),
    ("skip numbers", constrained(skip=[5]), TypeError, "`skip`", "5"),
    (
        "skip a layer itself",
        lambda b: kdf.Constraints(skip=[b.model.get_layer("stem")]),
        TypeError,
        "Pass 'stem'",
    ),
    (
        "a misspelt layer",
        constrained(skip="steem"),
        ValueError,
        "'steem'",
        "Close matches: stem",
    ),
    (
        "a pattern of nothing",
        constrained(floors={"block9_*": 0.5}),
        ValueError,
        "'block9_*'",
        "layers are: ",
    ),
    ("no such cap", constrained(caps={"innner": 0.5}), ValueError, "inner"),
    ("no such scheme", constrained(scheme={"x": 2}), ValueError, "'x'"),
    ("no such class", constrained(skip=layers.LSTM), ValueError, "LSTM"),
    ("a function that fails", constrained(skip=strided), ValueError, "strided"),
    (
        "a floor above a cap",
        constrained(floors={"stem": 0.8}, caps={"stem": 0.5}),
        ValueError,
        "contradict",
        "stem",
        "80.0%",
        "50.0%",
    ),
    (
        "the same through patterns",
        constrained(floors={"in*": 0.8}, caps={"*": 0.5}),
        ValueError,
        "contradict",
        "inner",
    ),
    (
        "the same through coupled layers",
        constrained(floors={"stem": 0.8}, caps={"inner": 0.5}),
        ValueError,
        "contradict",
        "same filters",
    ),
    ("skip all", constrained(skip="*"), ValueError, "Nothing", "inspect"),
    ("not constraints", lambda b: b.search(constraints={}), TypeError, "dict"),
    (
        "nor to inspect",
        lambda b: kdf.inspect(b.model, constraints="prune"),
        TypeError,
        "`constraints`",
        "'prune'",
    ),
    (
        "nor to a baseline",
        lambda b: baselines.magnitude(b.model, kdf.MACs(0.6), constraints=3),
        TypeError,
        "`constraints`",
        "3",
    ),
    ("an unknown option", constrained(round=8), TypeError, "'round'"),
)
def test_constraints(bench, call, error, words):
    refused(bench, call, error, *words)


def configured(**options):
    return lambda bench: bench.search(config=kdf.SearchConfig(**options))


@table(
    ("mask", configured(mask=1), ValueError, "`mask`", "unit", "1"),
    ("shrinkage", configured(shrinkage="hard"), ValueError, "svt", "'hard'"),
    ("metric", configured(metric=None), ValueError, "`metric`", "None"),
    ("norm", configured(normalization="l"), ValueError, "`normalization`"),
    ("spectra", configured(spectra=["svd"]), ValueError, "`spectra`"),
    ("one number", configured(mask_steepness=2.0), ValueError, "two positive"),
    ("three", configured(rank_steepness=(1, 2, 3)), ValueError, "(1, 2, 3)"),
    ("text", configured(rank_steepness="ab"), ValueError, "'ab'"),
    ("nan", configured(mask_steepness=(2, NAN)), ValueError, "nan"),
    ("rate", configured(mask_rate=0.5), ValueError, "`mask_rate`", "0.5"),
    ("ramp", configured(ramp=0), ValueError, "`ramp`", "(0, 1]"),
    ("ramp text", configured(ramp="fast"), ValueError, "`ramp`", "'fast'"),
    ("penalty", configured(penalty=INF), ValueError, "`penalty`", "inf"),
    ("penalty none", configured(penalty=None), ValueError, "`penalty`"),
    ("refresh", configured(refresh_steps=0), ValueError, "`refresh_steps`"),
    ("refresh bool", configured(refresh_steps=True), ValueError, "True"),
    ("a dict", lambda b: b.search(config={"ramp": 1}), TypeError, "`config`"),
    ("an unknown option", configured(lr=0.1), TypeError, "'lr'"),
    ("callback", lambda b: kdf.DFCallback(0), ValueError, "`steps`", "0"),
    ("callback bool", lambda b: kdf.DFCallback(True), ValueError, "True"),
    ("callback text", lambda b: kdf.DFCallback("all"), ValueError, "'all'"),
    (
        "callback option",
        lambda b: kdf.DFCallback(epochs=3),
        TypeError,
        "epochs",
    ),
    (
        "tolerance",
        lambda b: b.search().refresh(tolerance="some"),
        ValueError,
        "`tolerance`",
        "'some'",
    ),
    (
        "an unknown argument of a search",
        lambda b: b.search(target=0.5),
        ValueError,
        "target",
    ),
    (
        "the config of something else",
        lambda b: kdf.SearchModel.from_config({"name": "a", "layers": []}),
        ValueError,
        "budget",
        "constraints",
    ),
)
def test_search_options(bench, call, error, words):
    refused(bench, call, error, *words)


def nothing():
    yield from ()


def without_kernels():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, layers.Flatten()(layers.ReLU()(inputs)))


def with_nan_weights():
    model = network()
    kernel = np.zeros(model.get_layer("inner").kernel.shape)
    kernel[0, 0, 0, 0] = NAN
    model.get_layer("inner").kernel.assign(kernel)
    return model


def uncompiled(bench):
    bench.search().fit(bench.x, bench.y)


def without_a_loss(bench):
    search = bench.search()
    search.compile("adam")
    search.fit(bench.x, bench.y, verbose=0)


def unknown_length(bench):
    bench.fit((images, bench.y) for images in [bench.x])


def nan_in_targets(bench):
    search = bench.search()
    search.compile("adam", "mse")
    targets = np.zeros((32, 3))
    targets[20] = NAN
    search.fit(bench.x, targets, batch_size=8, shuffle=False, verbose=0)


def of_two_lengths(bench):
    inputs = [keras.Input((4,)), keras.Input((6,))]
    x = layers.Concatenate()([layers.Dense(8)(i) for i in inputs])
    model = keras.Model(inputs, layers.Dense(3)(x))
    search = compiled(kdf.SearchModel(model, kdf.MACs(0.7)))
    search.fit([np.ones((8, 4)), np.ones((7, 6))], np.zeros(8), verbose=0)


@table(
    ("before compile", uncompiled, ValueError, "`compile()`", "before `fit()`"),
    ("without a loss", without_a_loss, ValueError, "no loss", "compile(loss="),
    ("no data", lambda b: b.fit(), TypeError, "Expected data", "None"),
    (
        "a path",
        lambda b: b.fit("train/"),
        TypeError,
        "Expected data",
        "'train/'",
    ),
    ("a number", lambda b: b.fit(3, b.y), TypeError, "Expected data", "3"),
    ("empty", lambda b: b.fit(b.x[:0], b.y[:0]), ValueError, "is empty"),
    (
        "nothing yielded",
        lambda b: b.fit(nothing(), steps_per_epoch=1),
        ValueError,
        "is empty",
    ),
    (
        "nothing said of its length",
        lambda b: b.fit(nothing()),
        ValueError,
        "does not say how many batches",
        "`steps_per_epoch`",
    ),
    ("an empty list", lambda b: b.fit([], b.y), ValueError, "is empty"),
    (
        "too small images",
        lambda b: b.fit(b.x[:, :4], b.y),
        ValueError,
        "'image': (None, 8, 8, 3)",
        "(32, 4, 8, 3)",
    ),
    (
        "too few dimensions",
        lambda b: b.fit(b.x[0], b.y[:8]),
        ValueError,
        "does not fit model 'net'",
        "(8, 8, 3)",
    ),
    (
        "too many channels",
        lambda b: b.fit(np.tile(b.x, 2), b.y),
        ValueError,
        "does not fit model 'net'",
        "(32, 8, 8, 6)",
    ),
    (
        "text instead of images",
        lambda b: b.fit(np.array([["a"] * 3] * 4), b.y[:4]),
        ValueError,
        "does not fit model 'net'",
    ),
    (
        "two inputs for one",
        lambda b: b.fit({"left": b.x, "right": b.x}, b.y),
        ValueError,
        "'image'",
        "left",
    ),
    ("two lengths", of_two_lengths, ValueError, "same number of samples"),
    (
        "NaN in the images",
        lambda b: b.fit(b.holding(NAN), b.y),
        ValueError,
        "input 'image'",
        "not finite",
        "remove or replace",
    ),
    (
        "infinity in the images",
        lambda b: b.fit(b.holding(INF), b.y),
        ValueError,
        "input 'image'",
        "not finite",
    ),
    (
        "NaN in the targets",
        nan_in_targets,
        FloatingPointError,
        "steps 1 to 4",
        "data and targets",
    ),
    ("batch 0", lambda b: b.fit(b.x, b.y, batch_size=0), ValueError, "0"),
    ("batch -4", lambda b: b.fit(b.x, b.y, batch_size=-4), ValueError, "-4"),
    ("batch 2.5", lambda b: b.fit(b.x, b.y, batch_size=2.5), ValueError, "2.5"),
    ("no epochs", lambda b: b.fit(b.x, b.y, epochs=0), ValueError, "`epochs`"),
    ("epochs", lambda b: b.fit(b.x, b.y, epochs="2"), ValueError, "'2'"),
    ("no length", unknown_length, ValueError, "steps_per_epoch", "DFCallback("),
    (
        "a callback of a search for a plain model",
        lambda b: b.model.fit(
            b.x, b.y, callbacks=[kdf.DFCallback()], verbose=0
        ),
        ValueError,
        "`DFCallback`",
        "SearchModel",
    ),
    (
        "no layer to compress",
        lambda b: kdf.SearchModel(without_kernels(), kdf.MACs(0.5)),
        ValueError,
        "Nothing in the model can be compressed",
        "inspect",
    ),
    (
        "nor for a baseline",
        lambda b: baselines.magnitude(without_kernels(), kdf.Params(0.5)),
        ValueError,
        "Nothing in the model can be compressed",
    ),
    (
        "NaN in a weight",
        lambda b: kdf.SearchModel(with_nan_weights(), kdf.MACs(0.5)),
        ValueError,
        "'inner'",
        "kernel",
        "Load or train it anew",
    ),
    (
        "the same in a baseline",
        lambda b: baselines.magnitude(with_nan_weights(), kdf.MACs(0.5)),
        ValueError,
        "'inner'",
    ),
    (
        "the same in surgery",
        lambda b: kdf.compress(with_nan_weights(), b.plan),
        ValueError,
        "'inner'",
    ),
)
def test_searches(bench, call, error, words):
    refused(bench, call, error, *words)


def recalibrated(data, **options):
    def call(bench):
        kdf.recalibrate(bench.model, data(bench), **options)

    return call


def other_plan(bench):
    inputs = keras.Input((4,))
    other = keras.Model(inputs, layers.Dense(2, name="only")(inputs))
    return baselines.random(other, kdf.MACs(1.0))


@table(
    (
        "a path",
        lambda b: kdf.compress(b.model, "p.json"),
        TypeError,
        "'p.json'",
    ),
    ("no plan", lambda b: kdf.compress(b.model, None), TypeError, "`plan`"),
    (
        "a config",
        lambda b: kdf.compress(b.model, b.config()),
        TypeError,
        "CompressionPlan.load",
        "dict",
    ),
    (
        "a budget",
        lambda b: kdf.compress(b.model, kdf.MACs(0.5)),
        TypeError,
        "`plan`",
        "MACs(0.5)",
    ),
    (
        "a plan of another model",
        lambda b: kdf.compress(b.model, other_plan(b)),
        ValueError,
        "another model",
        "only",
        "stem",
    ),
    ("0 steps", lambda b: b.compress(steps=0), ValueError, "`steps`", "0"),
    ("all steps", lambda b: b.compress(steps="all"), ValueError, "'all'"),
    ("a number", lambda b: b.compress(calibration=3), TypeError, "3"),
    ("text", lambda b: b.compress(calibration="x"), TypeError, "'x'"),
    ("empty", lambda b: b.compress(calibration=[]), ValueError, "is empty"),
    (
        "wrong shape",
        lambda b: b.compress(calibration=b.x[:, 1:]),
        ValueError,
        "(32, 7, 8, 3)",
    ),
    (
        "NaN",
        lambda b: b.compress(calibration=b.holding(NAN)),
        ValueError,
        "'image'",
        "not finite",
    ),
    ("data", recalibrated(lambda b: None), TypeError, "Expected data", "None"),
    ("no batch", recalibrated(lambda b: b.x[:0]), ValueError, "is empty"),
    (
        "a shape",
        recalibrated(lambda b: b.x[:, 1:]),
        ValueError,
        "(32, 7, 8, 3)",
    ),
    ("nan", recalibrated(lambda b: b.holding(NAN)), ValueError, "not finite"),
    ("steps", recalibrated(lambda b: b.x, steps=0), ValueError, "`steps`"),
    (
        "what is no model to recalibrate",
        lambda b: kdf.recalibrate("small.keras", b.x),
        TypeError,
        "`model`",
        "'small.keras'",
    ),
    (
        "norm",
        lambda b: baselines.magnitude(b.model, kdf.MACs(0.6), norm=3),
        ValueError,
        "`norm` must be 1 or 2",
        "3",
    ),
    (
        "norm's name",
        lambda b: baselines.magnitude(b.model, kdf.MACs(0.6), norm="l1"),
        ValueError,
        "`norm`",
        "'l1'",
    ),
    (
        "allocation",
        lambda b: baselines.geometric_median(
            b.model, kdf.MACs(0.6), allocation="local"
        ),
        ValueError,
        "uniform",
        "'local'",
    ),
    (
        "seed",
        lambda b: baselines.random(b.model, kdf.MACs(0.6), seed=-1),
        ValueError,
        "`seed`",
        "-1",
    ),
    (
        "seed's name",
        lambda b: baselines.random(b.model, kdf.MACs(0.6), seed="lucky"),
        ValueError,
        "`seed`",
        "'lucky'",
    ),
    (
        "energy's steps",
        lambda b: baselines.energy(b.model, kdf.MACs(0.9), steps=1.5),
        ValueError,
        "`steps`",
        "1.5",
    ),
    (
        "energy's data",
        lambda b: baselines.energy(b.model, kdf.MACs(0.9), b.holding(INF)),
        ValueError,
        "not finite",
    ),
    (
        "a baseline's budget",
        lambda b: baselines.uniform_rank(b.model, 0.5),
        TypeError,
        "`budget`",
        "FLOPs(0.5)",
    ),
    (
        "an unknown option of a baseline",
        lambda b: baselines.energy(b.model, kdf.MACs(0.9), share=0.5),
        TypeError,
        "'share'",
    ),
)
def test_surgery_and_baselines(bench, call, error, words):
    refused(bench, call, error, *words)


def loaded(content, kind=kdf.CompressionPlan):
    def call(bench):
        text = content(bench) if callable(content) else content
        kind.load(bench.file(text))

    return call


def truncated(bench):
    text = json.dumps(bench.config())
    return text[: len(text) * 2 // 3]


READ = "Cannot read '"


@table(
    ("empty", loaded(""), ValueError, READ, "in.json", "is empty"),
    ("blank", loaded(" \n"), ValueError, READ, "is empty"),
    ("cut off", loaded(truncated), ValueError, READ, "cut off", "copy"),
    ("binary", loaded(bytes(range(256))), ValueError, READ, "not JSON"),
    ("zeros", loaded(bytes(64)), ValueError, READ, "not JSON"),
    ("a list", loaded("[1, 2]"), ValueError, READ, "not a compression plan"),
    ("a number", loaded("3"), ValueError, READ, "not a compression plan"),
    ("null", loaded("null"), ValueError, READ, "not a compression plan"),
    ("deep", loaded("[" * 10**5), ValueError, READ, "nested too deeply"),
    ("NaN", loaded('{"format": NaN}'), ValueError, READ, "NaN"),
    ("Infinity", loaded("[Infinity]"), ValueError, READ, "Infinity"),
    ("digits", loaded("9" * 10**5), ValueError, READ, "in.json"),
    ("no path", lambda b: kdf.CompressionPlan.load(None), TypeError, "path"),
    ("a handle", lambda b: kdf.CompressionPlan.load(0), TypeError, "path", "0"),
    ("no name", lambda b: kdf.CompressionPlan.load(""), ValueError, "path"),
    (
        "null byte",
        lambda b: kdf.CompressionPlan.load("a\0b"),
        ValueError,
        "path",
    ),
    (
        "missing",
        lambda b: kdf.CompressionPlan.load(b.folder / "nowhere.json"),
        FileNotFoundError,
        "nowhere.json",
    ),
    (
        "a folder",
        lambda b: kdf.CompressionPlan.load(b.folder),
        IsADirectoryError,
        "empty",
    ),
    (
        "inside a file",
        lambda b: kdf.CompressionPlan.load(b.file("{}") / "plan.json"),
        NotADirectoryError,
        "plan.json",
    ),
    (
        "version",
        lambda b: b.load(version=99),
        ValueError,
        "99",
        "reads version",
    ),
    ("version true", lambda b: b.load(version=True), ValueError, "True"),
    ("version text", lambda b: b.load(version="1"), ValueError, "'1'"),
    ("format", lambda b: b.load(format="other"), ValueError, "'format'"),
    ("layers", lambda b: b.load(layers=[]), ValueError, "damaged", "'layers'"),
    ("costs", lambda b: b.load(costs={}), ValueError, "damaged", "'macs'"),
    (
        "negative costs",
        lambda b: b.load(costs={**b.plan.costs, "macs": (9, -1)}),
        ValueError,
        "'macs'",
        "-1",
    ),
    (
        "fractional costs",
        lambda b: b.load(costs={**b.plan.costs, "flops": (9, 1.5)}),
        ValueError,
        "'flops'",
        "1.5",
    ),
    (
        "infinite costs",
        lambda b: b.load(costs={**b.plan.costs, "flops": (INF, 1)}),
        ValueError,
        "'flops'",
        "inf",
    ),
    ("budget", lambda b: b.load(budget="MACs"), ValueError, "'budget'", "MACs"),
    ("notes", lambda b: b.load(notes=[3]), ValueError, "'notes'", "3"),
    ("a layer", lambda b: b.load(layer="stem", colour=1), ValueError, "stem"),
    ("kept", lambda b: b.load(layer="stem", kept=3), ValueError, "stem", "3"),
    (
        "out of range",
        lambda b: b.load(layer="stem", kept=[0, 8]),
        ValueError,
        "stem",
        "within 0 and 7",
        "8",
    ),
    (
        "twice",
        lambda b: b.load(layer="stem", kept=[1, 1]),
        ValueError,
        "1 comes",
    ),
    ("negative", lambda b: b.load(layer="stem", kept=[-1]), ValueError, "-1"),
    ("a half", lambda b: b.load(layer="stem", kept=[0.5]), ValueError, "0.5"),
    ("a name", lambda b: b.load(layer="stem", kept=["a"]), ValueError, "'a'"),
    ("true", lambda b: b.load(layer="stem", kept=[True]), ValueError, "True"),
    ("rank 0", lambda b: b.load(layer="stem", rank=0), ValueError, "rank 0"),
    (
        "a rank too large",
        lambda b: b.load(layer="stem", rank=10**9, max_rank=8),
        ValueError,
        "stem",
        "between 1 and 8",
    ),
    (
        "rank true",
        lambda b: b.load(layer="stem", rank=True),
        ValueError,
        "True",
    ),
    ("rank text", lambda b: b.load(layer="stem", rank="3"), ValueError, "'3'"),
    ("scheme", lambda b: b.load(layer="stem", scheme=None), ValueError, "None"),
    (
        "what is no config",
        lambda b: kdf.CompressionPlan.from_config("plan.json"),
        ValueError,
        "not a compression plan",
    ),
    (
        "nothing of a layer left",
        lambda b: kdf.compress(
            b.model, b.load(layer="hidden", kept=[], rank=None)
        ),
        ValueError,
        "every channel",
        "hidden",
    ),
    (
        "other channels than the layer it is added to",
        lambda b: kdf.compress(b.model, b.load(layer="inner", kept=[0])),
        ValueError,
        "have to go together",
    ),
    (
        "a layer more",
        lambda b: kdf.compress(
            b.model,
            b.load(
                layers={
                    **b.config()["layers"],
                    "extra": b.config()["layers"]["stem"],
                }
            ),
        ),
        ValueError,
        "another model",
        "extra",
    ),
    (
        "an output gone",
        lambda b: kdf.compress(
            b.model, b.load(layer="logits", kept=[0], rank=None)
        ),
        ValueError,
        "logits",
        "output",
    ),
    (
        "a scheme that the layer lacks",
        lambda b: kdf.compress(
            b.model, b.load(layer="hidden", rank=2, max_rank=6, scheme=2)
        ),
        ValueError,
        "hidden",
        "Scheme 2",
    ),
    (
        "a plan made by hand",
        lambda b: kdf.compress(
            b.model,
            dataclasses.replace(
                b.plan,
                layers={
                    **b.plan.layers,
                    "stem": dataclasses.replace(
                        b.plan.layers["stem"], kept=[0, 1]
                    ),
                },
            ),
        ),
        ValueError,
        "stem",
        "[0, 1]",
    ),
    (
        "explain a misspelt layer",
        lambda b: b.plan.explain("stemm"),
        ValueError,
        "Close matches: stem",
    ),
    ("explain 3", lambda b: b.plan.explain(3), TypeError, "`layer`", "3"),
    ("diff", lambda b: b.plan.diff(None), TypeError, "`other`", "None"),
)
def test_plans(bench, call, error, words):
    refused(bench, call, error, *words)


def with_entry(**entries):
    def content(bench):
        return json.dumps({**bench.table.get_config(), **entries})

    return loaded(content, kdf.LatencyTable)


@table(
    ("empty", loaded("", kdf.LatencyTable), ValueError, READ, "is empty"),
    ("a plan", loaded("{}", kdf.LatencyTable), ValueError, "measure_latency"),
    ("kernels", with_entry(kernels=[1]), ValueError, "'kernels'", "[1]"),
    ("kernel", with_entry(kernels={"a": {}}), ValueError, "'a'", "damaged"),
    (
        "times",
        with_entry(kernels={"a": {"dense": [1, 2, 3, "x"]}}),
        ValueError,
        "'a'",
        "'x'",
    ),
    ("tile", with_entry(tile=0), ValueError, "`tile`", "0"),
    ("fixed", with_entry(fixed=None), ValueError, "'fixed'", "None"),
    ("operator", with_entry(operators={"d": "x"}), ValueError, "'d'", "'x'"),
    ("an unknown entry", with_entry(speed=3), ValueError, "speed"),
)
def test_latency_tables(bench, call, error, words):
    refused(bench, call, error, *words)


def writers():
    """Everything that writes, as functions of the bench and a path."""
    yield "plan", lambda b, path: b.plan.save(path)
    yield "table", lambda b, path: b.table.save(path)
    yield "plot", lambda b, path: kdf.report.plot_plan(b.plan, path)
    if IS_TENSORFLOW:
        yield "litert", lambda b, path: export.litert(b.model, path)
        yield "saved_model", lambda b, path: export.saved_model(b.model, path)
        yield "latency", lambda b, path: export.measure_latency(b.model, path)


WRITERS = dict(writers())


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    "path, error, words",
    [
        (lambda b: None, TypeError, ("path", "None")),
        (lambda b: 1, TypeError, ("path", "1")),
        (lambda b: "", ValueError, ("path",)),
        (
            lambda b: b.folder / "missing" / "out.tflite",
            FileNotFoundError,
            ("missing", "Make it first"),
        ),
        (
            lambda b: b.file("text", "note.txt") / "out.tflite",
            NotADirectoryError,
            ("note.txt", "Name another"),
        ),
        (
            lambda b: b.file("text", "note.txt") / "deep" / "out.tflite",
            NotADirectoryError,
            ("note.txt",),
        ),
    ],
    ids=["none", "number", "empty", "missing", "in a file", "below a file"],
)
def test_where_nothing_can_be_written(bench, name, path, error, words):
    if name == "latency" and path(bench) is None:
        return  # A table need not be written.
    refused(bench, lambda b: WRITERS[name](b, path(b)), error, *words)


@pytest.mark.parametrize("name", [x for x in WRITERS if x != "saved_model"])
def test_a_folder_in_the_place_of_a_file(bench, name):
    (bench.folder.parent / "out.tflite").mkdir(exist_ok=True)
    refused(
        bench,
        lambda b: WRITERS[name](b, b.folder.parent / "out.tflite"),
        IsADirectoryError,
        "out.tflite",
        "Name a file",
    )


@pytest.mark.parametrize("name", ["plan", "table", "plot"])
def test_a_device_in_the_place_of_a_file(bench, name):
    refused(
        bench, lambda b: WRITERS[name](b, os.devnull), OSError, "is a device"
    )
    assert not os.path.isfile(os.devnull)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_may_not_be_written_to(bench, name, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused(
        bench,
        lambda b: WRITERS[name](b, b.folder / "out.tflite"),
        PermissionError,
        str(bench.folder),
        "permissions",
    )


@pytest.mark.parametrize("name", [x for x in WRITERS if x != "latency"])
def test_a_full_disk_leaves_the_old_file(bench, name, monkeypatch):
    bench.folder.mkdir(exist_ok=True)
    ending = "png" if name == "plot" else "tflite"
    path = bench.folder.parent / f"old.{ending}"
    if name == "saved_model":
        path = bench.folder.parent / "old_saved_model"
        path.mkdir(exist_ok=True)
        (path / "saved_model.pb").write_text("old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    if name != "saved_model":
        path.write_text("old")
    refused(
        bench,
        lambda b: WRITERS[name](b, path),
        OSError,
        "No space left",
        path.name,
    )
    kept = path / "saved_model.pb" if path.is_dir() else path
    assert kept.read_text() == "old"


@pytest.mark.skipif(not IS_TENSORFLOW, reason="only TensorFlow exports")
@table(
    (
        "quantize",
        lambda b: export.litert(b.model, b.folder / "a.tflite", "int4"),
        ValueError,
        "int8",
        "'int4'",
    ),
    (
        "bits",
        lambda b: export.litert(b.model, b.folder / "a.tflite", 8),
        ValueError,
        "`quantize`",
        "8",
    ),
    (
        "no calibration",
        lambda b: export.litert(b.model, b.folder / "a.tflite", "int8"),
        ValueError,
        "`calibration`",
    ),
    (
        "ending",
        lambda b: export.litert(b.model, b.folder / "a.bin"),
        ValueError,
        ".tflite",
        "a.bin",
    ),
    (
        "batch size",
        lambda b: export.litert(b.model, b.folder / "a.tflite", batch_size=0),
        ValueError,
        "`batch_size`",
        "0",
    ),
    (
        "NaN to calibrate on",
        lambda b: export.litert(
            b.model, b.folder / "a.tflite", "int8", b.holding(NAN)
        ),
        ValueError,
        "'image'",
        "not finite",
    ),
    (
        "the wrong shape to calibrate on",
        lambda b: export.litert(
            b.model, b.folder / "a.tflite", "int8", b.x[:, 1:]
        ),
        ValueError,
        "(32, 7, 8, 3)",
    ),
    (
        "NaN in a weight",
        lambda b: export.litert(with_nan_weights(), b.folder / "a.tflite"),
        RuntimeError,
        "NaN",
        "Nothing was written",
    ),
    (
        "something else there",
        lambda b: export.saved_model(b.model, b.file("text", "note.txt")),
        FileExistsError,
        "note.txt",
        "Name another",
    ),
    ("no file", lambda b: export.benchmark(), ValueError, "at least one file"),
    (
        "a missing file",
        lambda b: export.benchmark("nowhere.tflite"),
        FileNotFoundError,
        "nowhere.tflite",
    ),
    (
        "another file",
        lambda b: export.benchmark(b.file("text", "note.txt")),
        ValueError,
        "note.txt",
        "litert",
    ),
    (
        "an empty file",
        lambda b: export.benchmark(b.file("", "empty.tflite")),
        ValueError,
        "empty.tflite",
        "cut off",
    ),
    (
        "a model to time",
        lambda b: export.benchmark(b.model),
        TypeError,
        "path",
        "Functional",
    ),
    (
        "threads",
        lambda b: export.benchmark("a.tflite", threads=0),
        ValueError,
        "`threads`",
        "0",
    ),
    (
        "repeats",
        lambda b: export.benchmark("a.tflite", repeats="10"),
        ValueError,
        "`repeats`",
        "'10'",
    ),
    (
        "threads of a table",
        lambda b: export.measure_latency(b.model, threads=1.5),
        ValueError,
        "`threads`",
        "1.5",
    ),
    (
        "repeats of a table",
        lambda b: export.measure_latency(b.model, repeats=0),
        ValueError,
        "`repeats`",
        "0",
    ),
    (
        "a plot of no plan",
        lambda b: kdf.report.plot_plan("plan.json", b.folder / "a.png"),
        TypeError,
        "`plan`",
        "'plan.json'",
    ),
    (
        "a plot in a format that there is not",
        lambda b: kdf.report.plot_plan(b.plan, b.folder / "a.docx"),
        ValueError,
        "docx",
        "png",
    ),
)
def test_exports(bench, call, error, words):
    refused(bench, call, error, *words)
