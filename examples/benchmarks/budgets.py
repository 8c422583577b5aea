"""Checks that budgets are kept: plans for applications, budgets and methods.

For each model, each share of the FLOPs, of the parameters and of both, every
baseline and an untrained search make a plan. A plan has to land within one
percent of the original cost below its target, or the budget has to be refused
before anything is trained.

    python examples/benchmarks/budgets.py
    python examples/benchmarks/budgets.py --models=MobileNetV2 --round_to=8

One line per plan is appended to a JSON lines file; plans that are in it are
not made again.
"""

import collections

import keras
import numpy as np
import records
from absl import app
from absl import flags
from absl import logging

import keras_df as kdf

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "models",
    [
        *("ResNet50", "VGG16", "MobileNetV2", "MobileNetV3Small"),
        *("EfficientNetB0", "EfficientNetV2B0", "DenseNet121", "InceptionV3"),
        *("Xception", "NASNetMobile"),
    ],
    "Names of constructors in `keras.applications`.",
)
flags.DEFINE_integer("image_size", 96, "Width and height of the images.")
flags.DEFINE_integer("round_to", 1, "Kept counts are multiples of this.")
flags.DEFINE_bool("search", True, "Whether to plan by an untrained search.")
flags.DEFINE_string(
    "out", "examples/benchmarks/results/budgets.jsonl", "File to append."
)

SHARES = (0.3, 0.5, 0.7)
BUDGETS = {
    "flops": lambda share: [kdf.FLOPs(share)],
    "params": lambda share: [kdf.Params(share)],
    "both": lambda share: [kdf.FLOPs(share), kdf.Params(share)],
}


def untrained_search(model, budget, constraints):
    """A plan of a search whose masks and thresholds are drawn at random."""
    search = kdf.SearchModel(model, budget, constraints)
    rng = np.random.default_rng(0)
    for variable in search.trainable_variables:
        variable.assign(rng.uniform(0, 1, variable.shape))
    return search.plan()


def methods():
    found = {
        name: getattr(kdf.baselines, name)
        for name in (
            *("magnitude", "geometric_median", "batch_norm_scale"),
            *("random", "uniform_rank", "energy"),
        )
    }
    return found | ({"search": untrained_search} if FLAGS.search else {})


def attempt(method, model, budget):
    """Makes a plan; returns what became of it as a flat dict."""
    constraints = kdf.Constraints(round_to=FLAGS.round_to)
    try:
        plan = method(model, budget, constraints=constraints)
    except ValueError as error:
        refused = "cannot be reached" in str(error)
        return {"status": "refused" if refused else f"failed: {error}"}
    plan.validate(model)
    record = {}
    for item in budget:
        before, after = plan.costs[item.resource]
        record[item.resource] = round(after / before, 5)
    target = budget[0].target
    largest = max(record.values())
    record["rounded"] = all(
        count % FLAGS.round_to == 0 or count == full
        for layer in plan.layers.values()
        for count, full in (
            (len(layer.kept), layer.channels),
            (layer.rank or 0, layer.max_rank),
        )
    )
    if largest > target or not record["rounded"]:
        return record | {"status": "broken"}
    if largest < target - 0.01:
        return record | {"status": "coarse" if plan.notes else "silent"}
    return record | {"status": "kept"}


def examine(name, found):
    """Yields the records of one model that are not among those found."""
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(FLAGS.image_size, FLAGS.image_size, 3)
    )
    for method, function in methods().items():
        for budget, make in BUDGETS.items():
            for share in SHARES:
                record = {
                    "model": name,
                    "method": method,
                    "budget": budget,
                    "share": share,
                    "round_to": FLAGS.round_to,
                    "image_size": FLAGS.image_size,
                }
                if not records.holds(found, record):
                    yield record | attempt(function, model, make(share))
    keras.utils.clear_session(free_memory=True)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    found = records.read(FLAGS.out)
    for name in FLAGS.models:
        for record in examine(name, found):
            records.append(FLAGS.out, record)
            if record["status"] not in ("kept", "refused"):
                print(record, flush=True)
        print(f"{name} done", flush=True)
    counts = collections.Counter(x["status"] for x in records.read(FLAGS.out))
    print(", ".join(f"{n} {status}" for status, n in counts.items()))


if __name__ == "__main__":
    app.run(main)
