"""What the examples write down at the end: files, latencies, `report.json`."""

import json
import os

import keras
import numpy as np

import keras_df as kdf


def write_outcome(out, model, small, plan, accuracies, inputs):
    """Exports a compressed model and reports on it.

    Args:
        out: Path of the folder to write, which exists.
        model: The original model.
        small: The compressed model.
        plan: The plan that was carried out.
        accuracies: Dict of what to report beside the measurements here.
        inputs: Array of real inputs to compare the TFLite file on.

    Returns:
        The report, a dict.
    """

    def path(name):
        return os.path.join(out, name)

    plan.save(path("plan.json"))
    kdf.report.plot_plan(plan, path("plan.png"))
    small.save(path("small.keras"))
    kdf.export.saved_model(small, path("small_saved_model"))
    kdf.export.litert(model, path("original.tflite"))
    difference = kdf.export.litert(
        small, path("small.tflite"), calibration=inputs
    )
    before, after = kdf.export.benchmark(
        path("original.tflite"), path("small.tflite")
    )
    old, new = kdf.count(model), kdf.count(small)
    report = {
        "macs_before": old.macs,
        "macs_after": new.macs,
        "flops_before": old.flops,
        "flops_after": new.flops,
        "params_before": old.params,
        "params_after": new.params,
        **accuracies,
        "tflite_bytes_before": os.path.getsize(path("original.tflite")),
        "tflite_bytes_after": os.path.getsize(path("small.tflite")),
        "latency_ms_before": before.median,
        "latency_ms_after": after.median,
        "tflite_max_abs_diff": difference,
    }
    with open(path("report.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
    return report


def accuracy(model, x, y):
    """Share of samples that a classifier gets right."""
    logits = model.predict(x, batch_size=500, verbose=0)
    return float(np.mean(np.argmax(logits, axis=-1) == y))


def file_accuracy(path, x, y):
    """Share of samples that a `.tflite` file of batch size 1 gets right."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()
    right = 0
    for sample, label in zip(x, y):
        interpreter.set_tensor(source["index"], sample[None])
        interpreter.invoke()
        right += np.argmax(interpreter.get_tensor(target["index"])) == label
    return float(right / len(x))


def fine_tune(model, data, steps, **options):
    """`keras_df.fine_tune` on an endless data set, for some steps.

    Args:
        model: A classifier that returns logits; modified in place.
        data: `tf.data.Dataset` of batches that repeats.
        steps: Number of steps.
        **options: `learning_rate` and `teacher` of `keras_df.fine_tune`.
    """
    kdf.fine_tune(
        model,
        data,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        epochs=1,
        metrics=["accuracy"],
        steps_per_epoch=steps,
        shuffle=False,
        verbose=2,
        **options,
    )


def print_report(report, metric="accuracy"):
    """Prints what got smaller and faster, and what became of a metric."""
    for name in ("macs", "params", "tflite_bytes", "latency_ms"):
        before, after = report[f"{name}_before"], report[f"{name}_after"]
        print(
            f"{name:13}{before:>14,.6g} -> {after:>12,.6g}   "
            f"{before / after:.2f}x"
        )
    for name in ("before", "recalibrated", "finetuned"):
        value = report[f"{metric}_{name}"]
        print(f"{metric + ',':9} {name:13}{value:.4f}")
    print(f"TFLite differs from Keras by {report['tflite_max_abs_diff']:.1e}")
