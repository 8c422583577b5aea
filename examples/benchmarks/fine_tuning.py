"""Fine-tuning recipes side by side, where a network lost most of itself.

The network of `quickstart.py` keeps a small share of its multiply-accumulates
and is fine-tuned by each recipe, from the same weights and on the same images.

    python examples/benchmarks/fine_tuning.py
    python examples/benchmarks/fine_tuning.py --table

One line per run is appended to a JSON lines file; runs that are in it are not
repeated.
"""

import collections
import pathlib
import statistics
import sys

import keras
import numpy as np
import records
import tensorflow as tf
from absl import app
from absl import flags
from absl import logging

import keras_df as kdf

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from outcome import accuracy  # noqa: E402
from outcome import fine_tune  # noqa: E402
from quickstart import batches  # noqa: E402
from quickstart import build_model  # noqa: E402
from quickstart import load_data  # noqa: E402

FLAGS = flags.FLAGS
flags.DEFINE_list("budgets", ["0.15"], "Shares of the MACs.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of everything random.")
flags.DEFINE_list("steps", ["50", "200"], "Steps of fine-tuning.")
flags.DEFINE_integer("search_steps", 100, "Steps of the search.")
flags.DEFINE_integer("training_steps", 140, "Steps that train the network.")
flags.DEFINE_bool("table", False, "Only print the table of the results.")
flags.DEFINE_string(
    "results",
    "examples/benchmarks/results/fine_tuning.jsonl",
    "File to append.",
)

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def recipe(loss=LOSS, distillation=None, taught=False, one_hot=False):
    """A recipe: `keras_df.fine_tune` with these options."""

    def tune(small, train, steps, teacher):
        if one_hot:
            train = train.map(lambda x, y: (x, tf.one_hot(y, 10)))
        kdf.fine_tune(
            small,
            train,
            loss,
            epochs=1,
            steps_per_epoch=steps,
            teacher=teacher if taught else None,
            distillation=distillation,
            shuffle=False,
            verbose=0,
        )

    return tune


def adam(small, train, steps, teacher):
    """What is often tried first: Adam at its default learning rate."""
    del teacher
    small.compile("adam", LOSS)
    small.fit(train, steps_per_epoch=steps, shuffle=False, verbose=0)


def divergence(temperature):
    return keras.distillation.LogitsDistillation(
        temperature, keras.losses.KLDivergence()
    )


RECIPES = {
    "Adam, 1e-3": adam,
    "no teacher": recipe(),
    "no teacher, labels smoothed by 0.1": recipe(
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=0.1
        ),
        one_hot=True,
    ),
    "teacher, squared error of outputs": recipe(taught=True),
    "teacher, KL divergence at temperature 4": recipe(
        distillation=divergence(4.0), taught=True
    ),
}


def compressed(share, train, x):
    """Trains the network and compresses it; returns both."""
    model = build_model()
    fine_tune(model, train, FLAGS.training_steps, learning_rate=0.05)
    search = kdf.SearchModel(model, kdf.MACs(share))
    search.compile(optimizer=keras.optimizers.Adam(2e-2), loss=LOSS)
    search.fit(
        train,
        steps_per_epoch=FLAGS.search_steps,
        shuffle=False,
        verbose=0,
    )
    small = kdf.compress(model, search.plan(), calibration=x)
    kdf.recalibrate(small, train, steps=20)
    return model, small


def runs(share, seed, found):
    """Yields the records of one network that are not among those found."""
    place = {"budget": share, "seed": seed}
    recipes = [
        {"recipe": name, "steps": int(steps)}
        for name in RECIPES
        for steps in FLAGS.steps
    ]
    wanted = [x for x in recipes if not records.holds(found, place | x)]
    if not wanted:
        return
    keras.utils.set_random_seed(seed)
    x, x_test, y, y_test = load_data()
    model, small = compressed(share, batches(x, y), x)
    place |= {
        "original": accuracy(model, x_test, y_test),
        "recalibrated": accuracy(small, x_test, y_test),
    }
    for recipe in wanted:
        keras.utils.set_random_seed(seed)
        tuned = keras.models.clone_model(small)
        tuned.set_weights(small.get_weights())
        tune = RECIPES[recipe["recipe"]]
        tune(tuned, batches(x, y), recipe["steps"], model)
        loss = LOSS(y_test, tuned.predict(x_test, verbose=0))
        yield {
            **place,
            **recipe,
            "accuracy": accuracy(tuned, x_test, y_test),
            "loss": float(np.asarray(loss)),
        }


def table(found):
    """Mean and standard deviation over the seeds, as Markdown."""
    rows = collections.defaultdict(list)
    for record in found:
        place = record["budget"], record["steps"], record["recipe"]
        rows[place].append(record)
    lines = [
        "| MACs | steps | recipe | recalibrated | fine-tuned | test loss |",
        "|---:|---:|---|---:|---:|---:|",
    ]
    order = list(RECIPES)
    for (share, steps, name), group in sorted(
        rows.items(),
        key=lambda row: (-row[0][0], row[0][1], order.index(row[0][2])),
    ):
        after = [100 * record["accuracy"] for record in group]
        before = statistics.mean(100 * x["recalibrated"] for x in group)
        loss = statistics.mean(x["loss"] for x in group)
        spread = statistics.stdev(after) if len(after) > 1 else 0.0
        lines.append(
            f"| {share:.0%} | {steps} | {name} | {before:.1f} | "
            f"{statistics.mean(after):.1f} ± {spread:.1f} | {loss:.3f} |"
        )
    return "\n".join(lines)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    found = records.read(FLAGS.results)
    for share in [] if FLAGS.table else map(float, FLAGS.budgets):
        for seed in map(int, FLAGS.seeds):
            for record in runs(share, seed, found):
                records.append(FLAGS.results, record)
                print(record, flush=True)
            keras.utils.clear_session(free_memory=True)
    print(table(records.read(FLAGS.results)))


if __name__ == "__main__":
    app.run(main)
