"""Plans without a search against the search, at the same cost.

Which filters have the smallest weights, which are nearest to the others, how
much energy a rank keeps: such rules need no training. Here they and the search
each cut the network of `quickstart.py` down to the same number of
multiply-accumulates, and each result is fine-tuned in the same way. The budget
is harsh, for at half of the cost all of them do well on digits.

    python examples/compare_baselines.py

`benchmarks/accuracy.py` does this at length, on CIFAR-10.
"""

import json
import os

import keras
from absl import app
from absl import flags
from absl import logging
from outcome import accuracy
from outcome import fine_tune
from quickstart import LOSS
from quickstart import batches
from quickstart import build_model
from quickstart import load_data

import keras_df as kdf

FLAGS = flags.FLAGS  # Those of quickstart.py, and these.
flags.DEFINE_integer("train_steps", 140, "Steps that train the network.")
flags.DEFINE_integer("search_steps", 100, "Steps of the search.")
flags.DEFINE_integer("finetune_steps", 50, "Steps of fine-tuning.")
FLAGS.set_default("budget", 0.2)
FLAGS.set_default("out", "compare_baselines_out")

BASELINES = {
    "random": kdf.baselines.random,
    "L1 magnitude": kdf.baselines.magnitude,
    "geometric median": kdf.baselines.geometric_median,
    "BatchNormalization scale": kdf.baselines.batch_norm_scale,
    "uniform rank": kdf.baselines.uniform_rank,
    "spectral energy": kdf.baselines.energy,
}


def search_plan(model, train, budget):
    search = kdf.SearchModel(model, budget)
    search.compile(optimizer=keras.optimizers.Adam(2e-2), loss=LOSS)
    search.fit(
        train, steps_per_epoch=FLAGS.search_steps, shuffle=False, verbose=0
    )
    return search.plan()


def make_plans(model, train, x):
    """Yields the name of each method and its plan."""
    budget = kdf.MACs(FLAGS.budget)
    for name, method in BASELINES.items():
        yield name, method(model, budget)
    energy = kdf.baselines.energy(model, budget, calibration=x)
    yield "energy of activations", energy
    yield "search", search_plan(model, train, budget)


def examine(model, plan, train, data):
    """Carries out a plan; returns the cost and the accuracies."""
    x, x_test, _, y_test = data
    small = kdf.compress(model, plan, calibration=x)
    kdf.recalibrate(small, train, steps=20)
    row = {
        "macs": kdf.count(small).macs / kdf.count(model).macs,
        "recalibrated": accuracy(small, x_test, y_test),
    }
    kdf.fine_tune(
        small,
        train,
        LOSS,
        epochs=1,
        steps_per_epoch=FLAGS.finetune_steps,
        shuffle=False,
        verbose=0,
    )
    return row | {"finetuned": accuracy(small, x_test, y_test)}


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    os.makedirs(FLAGS.out, exist_ok=True)
    keras.utils.set_random_seed(FLAGS.seed)
    data = x, x_test, y, y_test = load_data()
    train = batches(x, y)
    model = build_model()
    fine_tune(model, train, FLAGS.train_steps, learning_rate=0.05)
    print(f"The network: accuracy {accuracy(model, x_test, y_test):.4f}\n")

    rows = {}
    print(f"{'plan by':26}{'MACs':>8}{'recalibrated':>14}{'fine-tuned':>12}")
    for name, plan in make_plans(model, train, x):
        row = rows[name] = examine(model, plan, train, data)
        print(
            f"{name:26}{row['macs']:>8.1%}{row['recalibrated']:>14.4f}"
            f"{row['finetuned']:>12.4f}",
            flush=True,
        )
    path = os.path.join(FLAGS.out, "report.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1)


if __name__ == "__main__":
    app.run(main)
