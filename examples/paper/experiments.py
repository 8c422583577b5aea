"""The experiments of the paper: train, search, compress, fine-tune, report.

    python examples/paper/experiments.py --experiment=vgg16_cifar10
    python examples/paper/experiments.py --experiment=resnet50_imagenet \\
        --data_dir ~/tensorflow_datasets --budget=0.5
    python examples/paper/experiments.py --experiment=resnet18_imagenet \\
        --pretrained=resnet18.keras --config=paper
    python examples/paper/experiments.py --cost

The hyper-parameters are those of the paper's Table 2; see README.md beside
this script. Training and search are not repeated where `original.keras` and
`plan.json` are in the output folder; then `small.keras` and `report.json` are
written.
`--synthetic` puts a few steps of random images through all of it.
"""

import collections.abc
import dataclasses
import filecmp
import json
import os
import pathlib
import shutil
import sys

import datasets
import keras
import networks
from absl import app
from absl import flags
from absl import logging

import keras_df as kdf
from keras_df.files import replacing

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from paper_config import PAPER  # noqa: E402
from paper_config import SCHEME_1  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A network, a data set and how to train on it.

    Attributes:
        network: Function of the experiment that returns a `keras.Model`.
        dataset: Name in tfds.
        test_split: Name of the split to test on.
        classes: Number of classes.
        image_size: Width and height of the images.
        batch: Batch size (Table 2).
        train_epochs: Epochs that train the original network.
        train_rate: Learning rate that trains it.
        search_epochs: Epochs of the search.
        finetune_epochs: Epochs of fine-tuning (Table 2).
        finetune_rate: Its learning rate (Table 2).
        weights: `"imagenet"` where trained weights can be downloaded.
    """

    network: collections.abc.Callable
    dataset: str
    test_split: str
    classes: int
    image_size: int = 32
    batch: int = 128
    train_epochs: int = 200
    train_rate: float = 0.01
    search_epochs: int = 10
    finetune_epochs: int = 100
    finetune_rate: float = 0.001
    weights: str | None = None


def _imagenet(network, **options):
    return Experiment(
        network,
        "imagenet2012",
        "validation",
        classes=1000,
        image_size=224,
        batch=64,
        train_epochs=90,
        train_rate=0.025,
        search_epochs=1,
        **options,
    )


EXPERIMENTS = {
    "vgg16_cifar10": Experiment(networks.vgg16, "cifar10", "test", 10),
    "resnet56_cifar10": Experiment(networks.resnet56, "cifar10", "test", 10),
    "resnet56_cifar100": Experiment(networks.resnet56, "cifar100", "test", 100),
    "resnet18_imagenet": _imagenet(networks.resnet18),
    "resnet50_imagenet": _imagenet(networks.resnet50, weights="imagenet"),
    "mobilenetv2_imagenet": _imagenet(
        networks.mobilenet_v2, weights="imagenet"
    ),
}

FLAGS = flags.FLAGS
flags.DEFINE_enum("experiment", None, list(EXPERIMENTS), "Which one to run.")
flags.DEFINE_string(
    "data_dir", "", "Folder of prepared tfds data; empty to prepare it."
)
flags.DEFINE_string(
    "pretrained", "", "A trained network, `.keras`, to start from."
)
flags.DEFINE_float("budget", 0.5, "Share of the FLOPs that may remain.")
flags.DEFINE_enum(
    "config",
    "default",
    ["default", "paper"],
    "Search and surgery: keras_df's, or as the paper writes them.",
)
flags.DEFINE_bool(
    "teacher", False, "Whether to distil from the original in fine-tuning."
)
flags.DEFINE_integer("train_epochs", None, "In place of the experiment's.")
flags.DEFINE_integer("search_epochs", None, "In place of the experiment's.")
flags.DEFINE_integer("finetune_epochs", None, "In place of the experiment's.")
flags.DEFINE_bool("synthetic", False, "Random data, a few steps: a rehearsal.")
flags.DEFINE_bool("cost", False, "Only print what each experiment costs.")
flags.DEFINE_string(
    "out",
    "",
    "Folder to write; by default named after experiment, config and budget.",
)
flags.DEFINE_integer("seed", 0, "Seed of everything random.")

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
TRAINING_COST = 3
"""Passes that a step of training costs: one forward, two backward."""


def rehearsal(experiment):
    """The experiment on a few small images, an epoch each."""
    return dataclasses.replace(
        experiment,
        classes=10,
        image_size=datasets.SMALL,
        batch=4,
        train_epochs=1,
        search_epochs=1,
        finetune_epochs=1,
        weights=None,
    )


def with_flags(experiment):
    """The experiment with what the flags change."""
    names = ("train_epochs", "search_epochs", "finetune_epochs")
    given = {k: FLAGS[k].value for k in names if FLAGS[k].value is not None}
    return dataclasses.replace(experiment, **given)


def train(model, experiment, data, epochs, learning_rate, teacher=None):
    """Trains a network, the original or the compressed one."""
    kdf.fine_tune(
        model,
        data.train,
        LOSS,
        epochs=epochs,
        learning_rate=learning_rate,
        teacher=teacher,
        metrics=["accuracy"],
        validation_data=data.test,
        steps_per_epoch=steps_per_epoch(experiment, data.images),
        shuffle=False,
        verbose=2,
    )


def steps_per_epoch(experiment, images):
    return max(images // experiment.batch, 1)


def original(experiment, data, path):
    """The trained network: the user's, downloaded, or trained here."""
    if FLAGS.pretrained:
        adopt(FLAGS.pretrained, path)
    if os.path.exists(path):
        return keras.models.load_model(path)
    model = experiment.network(experiment)
    if experiment.weights is None:
        train(
            model,
            experiment,
            data,
            experiment.train_epochs,
            experiment.train_rate,
        )
    with replacing(path) as new:
        model.save(new)
    return model


def adopt(pretrained, path):
    """Copies the user's network, unless plans of another are beside it."""
    if not os.path.exists(path):
        with replacing(path) as new:
            shutil.copyfile(pretrained, new)
    elif not filecmp.cmp(pretrained, path, shallow=False):
        raise app.UsageError(
            f"'{path}' is another network than --pretrained. Name another "
            "--out, or leave --pretrained out to go on with it."
        )


def search(experiment, model, data, path):
    """The plan: filters and ranks found by gradient."""
    if os.path.exists(path):
        return kdf.CompressionPlan.load(path)
    options = {}
    if FLAGS.config == "paper":
        options = {"config": PAPER, "constraints": SCHEME_1}
    searched = kdf.SearchModel(model, kdf.FLOPs(FLAGS.budget), **options)
    searched.compile(
        optimizer=keras.optimizers.Adam(1e-2), loss=LOSS, metrics=["accuracy"]
    )
    searched.fit(
        data.train,
        epochs=experiment.search_epochs,
        steps_per_epoch=steps_per_epoch(experiment, data.images),
        shuffle=False,
        verbose=2,
    )
    plan = searched.plan()
    plan.save(path)
    return plan


def compressed(experiment, model, plan, data, path):
    """The compressed network, fine-tuned, and its accuracy before that."""
    # The paper truncates kernels, without a look at what they read.
    calibration = None if FLAGS.config == "paper" else data.train
    small = kdf.compress(model, plan, calibration=calibration)
    kdf.recalibrate(small, data.train, steps=100 if data.images > 1000 else 2)
    recalibrated = accuracy(small, data.test)
    train(
        small,
        experiment,
        data,
        experiment.finetune_epochs,
        experiment.finetune_rate,
        teacher=model if FLAGS.teacher else None,
    )
    with replacing(path) as new:
        small.save(new)
    return small, recalibrated


def accuracy(model, test):
    """Top-1 accuracy, whatever the model was compiled with."""
    metric = keras.metrics.SparseCategoricalAccuracy()
    for images, labels in test:
        metric.update_state(labels, model.predict_on_batch(images))
    return float(metric.result())


def run(experiment, data, out):
    """Runs all stages, but for those that are known; returns the report."""

    def path(name):
        return os.path.join(out, name)

    model = original(experiment, data, path("original.keras"))
    plan = search(experiment, model, data, path("plan.json"))
    print(plan.summary())
    small, recalibrated = compressed(
        experiment, model, plan, data, path("small.keras")
    )
    before, after = kdf.count(model), kdf.count(small)
    report = {
        "flops_before": before.flops,
        "flops_after": after.flops,
        "params_before": before.params,
        "params_after": after.params,
        "accuracy_before": accuracy(model, data.test),
        "accuracy_recalibrated": recalibrated,
        "accuracy_finetuned": accuracy(small, data.test),
    }
    with open(path("report.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
    return report


def cost(experiment):
    """Arithmetic of an experiment's stages, in 10^15 operations."""
    untrained = dataclasses.replace(experiment, weights=None)
    flops = kdf.count(experiment.network(untrained)).flops
    images = 50_000 if experiment.image_size == datasets.SMALL else 1_281_167
    epoch = flops * images * TRAINING_COST / 1e15
    return {
        "epoch": epoch,
        "train": 0.0 if experiment.weights else epoch * experiment.train_epochs,
        "search": epoch * experiment.search_epochs,
        "finetune": epoch * experiment.finetune_epochs * FLAGS.budget,
    }


def print_costs():
    print(
        f"10^15 operations, {FLAGS.budget:.0%} of the FLOPs left\n"
        f"{'':22}{'an epoch':>12}{'train':>12}{'search':>12}{'fine-tune':>12}"
    )
    for name, experiment in EXPERIMENTS.items():
        row = "".join(f"{x:>12,.1f}" for x in cost(experiment).values())
        print(f"{name:22}{row}")


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.cost:
        return print_costs()
    if FLAGS.experiment is None:
        raise app.UsageError("Pass --experiment, one of EXPERIMENTS, or --cost")
    experiment = EXPERIMENTS[FLAGS.experiment]
    if FLAGS.synthetic:
        experiment = with_flags(rehearsal(experiment))
        data = datasets.synthetic(experiment)
    else:
        experiment = with_flags(experiment)
        data = datasets.load(experiment, FLAGS.data_dir)
    # What random images taught must not be taken for a trained network.
    kind = "rehearsal" if FLAGS.synthetic else "out"
    # Nor a plan for one budget for that of another.
    place = f"{FLAGS.experiment}_{kind}", f"{FLAGS.config}_{FLAGS.budget:g}"
    out = FLAGS.out or os.path.join(*place)
    os.makedirs(out, exist_ok=True)
    for name, value in run(experiment, data, out).items():
        print(f"{name:22}{value:,.4f}".rstrip("0").rstrip("."))


if __name__ == "__main__":
    app.run(main)
