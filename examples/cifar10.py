"""Compression of a trained network on CIFAR-10, loaded with `tfds.load`.

    python examples/cifar10.py --data_dir ~/tensorflow_datasets \\
        --model resnet20.keras --budget 0.5 --search_steps 300

The model takes images with values in 0-255 and returns 10 logits. Writes to
`cifar10_out/` what `quickstart.py` writes. Without the data set, pass
`--data_dir ""` and it is downloaded.
"""

import os

import keras
import numpy as np
from absl import app
from absl import flags
from absl import logging
from cifar10_data import BATCH
from cifar10_data import batches
from cifar10_data import load_data
from cifar10_search import search_plan
from cifar10_search import two_stage_plan
from outcome import accuracy
from outcome import fine_tune
from outcome import print_report
from outcome import write_outcome

import keras_df as kdf

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data_dir", "", "Folder of prepared tfds data; empty to download."
)
flags.DEFINE_string("model", None, "A trained model, `.keras`.", required=True)
flags.DEFINE_float("budget", 0.5, "Share of the MACs that may remain.")
flags.DEFINE_enum(
    "method",
    "search",
    ["search", "two_stages", "magnitude", "energy"],
    "Who makes the plan: the search, in one go or in two stages, or a "
    "baseline without one.",
)
flags.DEFINE_integer("search_steps", 300, "Steps of the search.")
flags.DEFINE_integer("finetune_epochs", 5, "Epochs of fine-tuning.")
flags.DEFINE_integer("seed", 0, "Seed of everything random.")
flags.DEFINE_string("out", "cifar10_out", "Folder to write.")


def make_plan(model, train, samples):
    """Decides what to remove, by the method that the flag names."""
    budget, steps = kdf.MACs(FLAGS.budget), FLAGS.search_steps
    if FLAGS.method == "magnitude":
        return kdf.baselines.magnitude(model, budget)
    if FLAGS.method == "energy":
        return kdf.baselines.energy(model, budget, calibration=samples)
    if FLAGS.method == "two_stages":
        return two_stage_plan(model, train, FLAGS.budget, steps, samples)
    return search_plan(model, train, budget, steps)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    keras.utils.set_random_seed(FLAGS.seed)
    os.makedirs(FLAGS.out, exist_ok=True)
    model = keras.models.load_model(FLAGS.model)
    x, y = load_data("train", FLAGS.data_dir)
    x_test, y_test = load_data("test", FLAGS.data_dir)
    train = batches(x, y, FLAGS.seed)
    report = {"accuracy_before": accuracy(model, x_test, y_test)}

    samples = x[: 12 * BATCH]
    plan = make_plan(model, train, samples)
    print(plan.summary())

    small = kdf.compress(model, plan, calibration=samples)
    kdf.recalibrate(small, train, steps=50)
    report["accuracy_recalibrated"] = accuracy(small, x_test, y_test)
    report["accuracy_finetuned"] = report["accuracy_recalibrated"]

    if FLAGS.finetune_epochs:
        steps = FLAGS.finetune_epochs * (len(x) // BATCH)
        fine_tune(small, train, steps, teacher=model)
        report["accuracy_finetuned"] = accuracy(small, x_test, y_test)

    samples = np.asarray(x_test[:200])
    print_report(write_outcome(FLAGS.out, model, small, plan, report, samples))


if __name__ == "__main__":
    app.run(main)
