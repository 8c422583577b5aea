"""Accuracy at the same cost: the search, its parts, and baselines.

Every method compresses the same trained networks to the same shares of their
multiply-accumulates, on the same data, and is fine-tuned by the same recipe.

    python examples/benchmarks/accuracy.py --data_dir ~/tensorflow_datasets \\
        --models resnet20_cifar10.keras,resnet56_cifar10.keras
    python examples/benchmarks/accuracy.py --table

One line per run is appended to a JSON lines file; runs that are in it are not
repeated, so the script may be stopped at any time.
"""

import functools
import itertools
import pathlib
import sys
import time

import keras
import records
from absl import app
from absl import flags
from absl import logging
from accuracy_report import STEPS
from accuracy_report import plot
from accuracy_report import table

import keras_df as kdf

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from cifar10_data import BATCH  # noqa: E402
from cifar10_data import batches  # noqa: E402
from cifar10_data import load_data  # noqa: E402
from cifar10_search import search_plan  # noqa: E402
from cifar10_search import two_stage_plan  # noqa: E402
from outcome import accuracy  # noqa: E402
from outcome import fine_tune  # noqa: E402
from paper_config import PAPER  # noqa: E402
from paper_config import SCHEME_1  # noqa: E402

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data_dir", "", "Folder of prepared tfds data; empty to download."
)
flags.DEFINE_list("models", [], "Trained models, `.keras`.")
flags.DEFINE_list("budgets", ["0.5", "0.4", "0.25"], "Shares of the MACs.")
flags.DEFINE_list("methods", [], "Names in METHODS; empty for all but PEERS.")
flags.register_validator(
    "methods",
    lambda names: set(names) <= set(METHODS),
    message="METHODS does not hold one of these names.",
)
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of everything random.")
flags.DEFINE_list("epochs", ["1", "5"], "Epochs of fine-tuning to try.")
flags.DEFINE_list(
    "teachers", ["original"], "In fine-tuning: original, none, or both."
)
flags.register_validator(
    "teachers", lambda names: set(names) <= {"original", "none"}
)
flags.DEFINE_integer("search_steps", STEPS, "Steps of a search.")
flags.DEFINE_float("learning_rate", 0.02, "The largest, in fine-tuning.")
flags.DEFINE_bool("table", False, "Only print the table of the results.")
flags.DEFINE_bool("plot", False, "Draw a plot per network beside the file.")
flags.DEFINE_string(
    "out", "examples/benchmarks/results/accuracy.jsonl", "File to append."
)

CALIBRATION = 12 * BATCH


def surgery(reconstruction):
    def compress(model, plan, samples):
        return kdf.compress(
            model, plan, calibration=samples, reconstruction=reconstruction
        )

    return compress


SEQUENTIAL, INDEPENDENT = map(surgery, ("sequential", "independent"))


def plain(model, plan, samples):
    """The truncated singular value decomposition of each kernel."""
    del samples
    return kdf.compress(model, plan)


def search(share, surgery=SEQUENTIAL, **options):
    """A method: one search."""

    def compress(model, train, samples):
        budget = kdf.MACs(share)
        plan = search_plan(model, train, budget, FLAGS.search_steps, **options)
        return surgery(model, plan, samples)

    return compress


def two_stages(share):
    """A method: filters first, then ranks, by half of the steps each."""

    def compress(model, train, samples):
        plan = two_stage_plan(model, train, share, FLAGS.search_steps, samples)
        return SEQUENTIAL(model, plan, samples)

    return compress


def baseline(function, share, surgery=INDEPENDENT, **options):
    """A method: a plan without a search."""

    def compress(model, train, samples):
        del train
        if options.get("calibration", ...) is None:
            options["calibration"] = samples
        plan = function(model, kdf.MACs(share), **options)
        return surgery(model, plan, samples)

    return compress


def torch_pruning(share, **options):
    """A method: the package of that name, which is not installed with ours."""

    def compress(model, train, samples):
        from torch_peer import group_magnitude

        del train, samples
        return group_magnitude(model, kdf.MACs(share), **options)

    return compress


def searched(**options):
    """Names of `search`'s options -> a function of the share of the MACs."""
    return functools.partial(search, **options)


def planned(function, **options):
    return lambda share: baseline(function, share, **options)


SEARCHES = {
    "df": searched(),
    "df without reconstruction": searched(surgery=INDEPENDENT),
    "df by Scheme 1": searched(constraints=SCHEME_1),
    "df as in the paper": searched(
        config=PAPER, constraints=SCHEME_1, surgery=plain
    ),
    "filters only (DML-S)": searched(
        constraints=kdf.Constraints(decompose=False)
    ),
    "ranks only (DTL-S)": searched(constraints=kdf.Constraints(prune=False)),
    "constant steepness": searched(
        config=kdf.SearchConfig(mask_steepness=(20.0, 20.0))
    ),
    "two stages": two_stages,
}
"""Name -> function of the share of the MACs -> method, by gradient."""

BASELINES = {
    "L1 magnitude": planned(kdf.baselines.magnitude),
    "geometric median": planned(kdf.baselines.geometric_median),
    "BatchNormalization scale": planned(kdf.baselines.batch_norm_scale),
    "random filters": planned(kdf.baselines.random),
    "uniform rank": planned(kdf.baselines.uniform_rank, constraints=SCHEME_1),
    "SVD energy": planned(kdf.baselines.energy, constraints=SCHEME_1),
    "SVD energy of activations": planned(
        kdf.baselines.energy, calibration=None, constraints=SCHEME_1
    ),
}
"""The same, without a search, as published."""

LENT = {
    "L1 magnitude with reconstruction": planned(
        kdf.baselines.magnitude, surgery=SEQUENTIAL
    ),
    "SVD energy of activations by Scheme 2": planned(
        kdf.baselines.energy, calibration=None
    ),
    "SVD energy of activations with reconstruction": planned(
        kdf.baselines.energy,
        calibration=None,
        constraints=SCHEME_1,
        surgery=SEQUENTIAL,
    ),
}
"""The best baselines with a part of our method: what it is without a search.

Those parts are the reconstruction of kernels, and Scheme 2 in the metric of
activations.
"""

PEERS = {
    "Torch-Pruning": torch_pruning,
    "Torch-Pruning (all layers)": functools.partial(
        torch_pruning, global_pruning=True
    ),
}
"""Those that run only when named: they need `torch` and `torch-pruning`."""

METHODS = SEARCHES | BASELINES | LENT | PEERS


def runs(path, place, recipes, data):
    """Compresses one network by one method and fine-tunes it by recipes.

    Yields the record of each recipe as soon as it is done.
    """
    (x, y), test = data
    seed = place["seed"]
    keras.utils.set_random_seed(seed)
    model = keras.models.load_model(path)
    train = batches(x, y, seed)
    method = METHODS[place["method"]](place["budget"])
    start = time.perf_counter()
    small = method(model, train, x[:CALIBRATION])
    seconds = time.perf_counter() - start
    kdf.recalibrate(small, train, steps=50)
    before, after = kdf.count(model), kdf.count(small)
    found = {
        "macs": after.macs / before.macs,
        "params": after.params / before.params,
        "seconds": seconds,
        "recalibrated": accuracy(small, *test),
    }
    for recipe in recipes:
        keras.utils.set_random_seed(seed)
        tuned = keras.models.clone_model(small)
        tuned.set_weights(small.get_weights())
        fine_tune(
            tuned,
            train,
            recipe["epochs"] * (len(x) // BATCH),
            learning_rate=recipe["learning_rate"],
            teacher=model if recipe["teacher"] else None,
        )
        yield place | recipe | found | {"fine_tuned": accuracy(tuned, *test)}


def wanted():
    """Yields the path and the settings of all networks to compress."""
    methods = FLAGS.methods or [*SEARCHES, *BASELINES, *LENT]
    steps = FLAGS.search_steps
    for seed, path, share, method in itertools.product(
        FLAGS.seeds, FLAGS.models, FLAGS.budgets, methods
    ):
        yield (
            path,
            {
                "network": pathlib.Path(path).stem,
                "budget": float(share),
                "method": method,
                "seed": int(seed),
                "search_steps": steps if method in SEARCHES else 0,
            },
        )


def wanted_recipes():
    """The settings of all fine-tunings of a compressed network."""
    return [
        {
            "learning_rate": FLAGS.learning_rate,
            "teacher": teacher == "original",
            "epochs": int(epochs),
        }
        for teacher, epochs in itertools.product(FLAGS.teachers, FLAGS.epochs)
    ]


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    keras.utils.disable_interactive_logging()  # No progress bars in the log.
    if not FLAGS.table:
        data = [load_data(x, FLAGS.data_dir) for x in ("train", "test")]
        found = records.read(FLAGS.out)
        recipes = wanted_recipes()
        for path, place in wanted():
            missing = [
                x for x in recipes if not records.holds(found, place | x)
            ]
            for record in runs(path, place, missing, data) if missing else ():
                records.append(FLAGS.out, record)
                print(record, flush=True)
            keras.utils.clear_session(free_memory=True)
    found = records.read(FLAGS.out)
    print(table(found))
    if FLAGS.plot:
        plot(found, pathlib.Path(FLAGS.out).with_suffix(""))


if __name__ == "__main__":
    app.run(main)
