"""Fails unless a quickstart's `report.json` says what the README promises."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    report = json.load(file)

share = report["macs_after"] / report["macs_before"]
loss = report["accuracy_before"] - report["accuracy_finetuned"]
checks = {
    "between 49 % and 50 % of the MACs remain": 0.49 <= share <= 0.5,
    "accuracy is within 1 point": loss <= 0.01,
    "TFLite agrees with Keras": report["tflite_max_abs_diff"] <= 1e-4,
    "the file is faster": report["latency_ms_after"]
    < report["latency_ms_before"],
    "the file is smaller": report["tflite_bytes_after"]
    < report["tflite_bytes_before"],
}
for name, holds in checks.items():
    print(f"{'ok  ' if holds else 'FAIL'} {name}")
sys.exit(not all(checks.values()))
