"""Compresses every model of `keras.applications` and checks the result.

For each of the 40 constructors, at the smallest image size that it admits and
with random weights: what can be pruned and decomposed, a plan at half of the
FLOPs, the compressed model against the original whose consumers are zeroed,
saving and reloading it, and one step of a search.

    python examples/applications.py
    python examples/applications.py --models ResNet50,MobileNetV2 --nosearch
    python examples/applications.py --table --readme README.md

One line per model is appended to a JSON lines file; models that are in it, with
the same settings, are not run again. At the end all of it is printed as a
Markdown table. In it, "prunable" and "decomposable" are the shares of the
multiply-accumulates (MACs) that pruning and decomposing can reduce, "smallest"
is the least share that a plan can leave, and "largest difference" is that of
the compressed model's outputs, relative to their scale.
"""

import gc
import os
import tempfile
import time
import traceback

import keras
import numpy as np
from absl import app
from absl import flags
from absl import logging
from benchmarks import records

import keras_df as kdf
from keras_df.files import replacing

FLAGS = flags.FLAGS
flags.DEFINE_list("models", [], "Names of constructors; empty for all 40.")
flags.DEFINE_float("budget", 0.5, "Share of the FLOPs that may remain.")
flags.DEFINE_bool("search", True, "Whether to take one step of a search.")
flags.DEFINE_bool("table", False, "Only print the table.")
flags.DEFINE_string("readme", "", "Markdown file to write the table into.")
flags.DEFINE_string(
    "out", "examples/benchmarks/results/applications.jsonl", "File to append."
)

SIZES = (32, 71, 75, 96, 128, 224)
GOAL = 0.3
MARKERS = ("<!-- applications -->", "<!-- /applications -->")


def constructors():
    """The names of all constructors in `keras.applications`."""
    return [
        name
        for name, value in vars(keras.applications).items()
        if name[0].isupper() and callable(value)
    ]


def smallest_model(name):
    """Builds an application at the smallest image size that it admits."""
    for size in SIZES:
        try:
            return getattr(keras.applications, name)(
                weights=None,
                input_shape=(size, size, 3),
                classifier_activation=None,
            )
        except ValueError as error:
            refusal = error
    raise refusal


def randomize(model, seed=0):
    """Sets all weights at random, so that no channel is trivially zero."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if "variance" in weight.name:
            value = rng.uniform(0.5, 2.0, shape)
        elif weight.name == "gamma":
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            fan_in = np.prod(shape[:-1])
            value = rng.standard_normal(shape, "float32") * (2 / fan_in) ** 0.5
        else:
            value = rng.normal(0, 0.2, shape)
        weight.assign(value)


def run(model, images):
    return np.asarray(model(images, training=False))


def relative_difference(first, second, images):
    a, b = run(first, images), run(second, images)
    return float(np.abs(a - b).max() / np.abs(b).max())


def reload_difference(small, images):
    """Largest difference after saving and loading, absolute."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "small.keras")
        small.save(path)
        loaded = keras.models.load_model(path)
    return float(np.abs(run(loaded, images) - run(small, images)).max())


def search_once(model, images):
    """Takes one training step of a search; returns its loss."""
    search = kdf.SearchModel(model, kdf.FLOPs(FLAGS.budget))
    search.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,  # Tracing a graph does not pay for one step.
    )
    labels = np.zeros(len(images), "int32")
    history = search.fit(images, labels, epochs=1, verbose=0)
    return history.history["loss"][0]


def examine(name):
    """Puts one application through everything; returns a flat dict."""
    model = smallest_model(name)
    randomize(model)
    shape = model.input_shape[1:]
    images = np.random.default_rng(1).uniform(0, 255, (8, *shape))
    images = images.astype("float32")
    # Statistics that fit the weights: else activations saturate everywhere.
    kdf.recalibrate(model, images, steps=1)
    images = images[:2]

    start = time.perf_counter()
    inspection = kdf.inspect(model)
    record = {
        "model": name,
        "budget": FLAGS.budget,
        "search": FLAGS.search,
        "size": shape[0],
        "macs": inspection.totals["macs"],
        "params": inspection.totals["params"],
        "inspect_seconds": round(time.perf_counter() - start, 2),
        "prunable": round(inspection.prunable_share, 4),
        "decomposable": round(inspection.decomposable_share, 4),
        "smallest": round(
            inspection.smallest["macs"] / inspection.totals["macs"], 4
        ),
    }
    record["reaches_goal"] = record["smallest"] <= GOAL

    plan = kdf.baselines.random(model, kdf.FLOPs(FLAGS.budget))
    before, after = plan.costs["flops"]
    record["planned"] = round(after / before, 4)
    start = time.perf_counter()
    small = kdf.compress(model, plan)
    record["compress_seconds"] = round(time.perf_counter() - start, 2)
    record["exact"] = kdf.count(small).flops == after
    record["reload"] = reload_difference(small, images)
    reference = kdf.surgery.zeroed_consumers(model, plan)
    record["difference"] = relative_difference(small, reference, images)
    del small, reference
    keras.utils.clear_session()
    if FLAGS.search:
        start = time.perf_counter()
        record["search_loss"] = float(search_once(model, images))
        record["search_seconds"] = round(time.perf_counter() - start, 1)
    return record


def is_good(record):
    close = record["difference"] <= 1e-4 and record["reload"] <= 1e-4
    loss = record.get("search_loss", 0.0)
    return close and record["exact"] and bool(np.isfinite(loss))


def examine_safely(name):
    try:
        record = examine(name)
        record["status"] = "ok" if is_good(record) else "differs"
    except Exception as error:
        traceback.print_exc()
        record = {"model": name, "status": f"{type(error).__name__}: {error}"}
    keras.utils.clear_session(free_memory=True)
    gc.collect()
    return record


def settings(name):
    """What a record of a model has that is not examined again."""
    wanted = {"model": name, "budget": FLAGS.budget, "status": "ok"}
    return wanted | ({"search": True} if FLAGS.search else {})


def last_records():
    """Dict from models to the last record of each in the output file."""
    return {record["model"]: record for record in records.read(FLAGS.out)}


def table_of(found):
    """All records as a Markdown table, and a summary in a sentence."""
    lines = [
        "| model | image | MACs | prunable | decomposable | smallest "
        "| largest difference | status |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for _, record in sorted(found.items()):
        if "macs" not in record:
            empty = "| " * 6
            lines.append(f"| {record['model']} {empty}| {record['status']} |")
            continue
        searched = "" if "search_loss" in record else ", not searched"
        lines.append(
            f"| {record['model']} | {record['size']} "
            f"| {record['macs'] / 1e6:,.0f} M | {record['prunable']:.0%} "
            f"| {record['decomposable']:.0%} | {record['smallest']:.1%} "
            f"| {record['difference']:.0e} | {record['status']}{searched} |"
        )
    good = [r for r in found.values() if r["status"] == "ok"]
    reached = [r for r in good if r["reaches_goal"]]
    searched = [r for r in good if "search_loss" in r]
    summary = (
        f"{len(good)} of {len(constructors())} keep the invariant, save and "
        f"reload; {len(searched)} took a step of a search; {len(reached)} can "
        f"be brought to {GOAL:.0%} of their MACs."
    )
    return "\n".join([*lines, "", summary])


def write_into(filepath, table):
    """Replaces what stands between the markers of a Markdown file."""
    with open(filepath, encoding="utf-8") as file:
        before, rest = file.read().split(MARKERS[0])
    _, after = rest.split(MARKERS[1])
    text = f"{before}{MARKERS[0]}\n{table}\n{MARKERS[1]}{after}"
    with replacing(filepath) as new, open(new, "w", encoding="utf-8") as file:
        file.write(text)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    names = [] if FLAGS.table else FLAGS.models or constructors()
    for run in records.missing(FLAGS.out, [settings(name) for name in names]):
        name, start = run["model"], time.perf_counter()
        record = examine_safely(name)
        records.append(FLAGS.out, record)
        seconds = time.perf_counter() - start
        print(f"{name}: {record['status']} ({seconds:.0f} s)", flush=True)
    table = table_of(last_records())
    print(table)
    if FLAGS.readme:
        write_into(FLAGS.readme, table)


if __name__ == "__main__":
    app.run(main)
