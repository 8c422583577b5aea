"""Results of benchmarks: a file with one JSON record per line."""

import json
import os


def read(path):
    """All records of a file; none if it does not exist yet."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def holds(found, settings):
    """Tells whether one of the records has these settings.

    Args:
        found: List of records.
        settings: Dict of what a record must contain.
    """
    return any(settings.items() <= record.items() for record in found)


def append(path, record):
    """Adds a record to a file."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
