"""Probabilities and logits, in NumPy."""

import numpy as np


def softmax(logits, axis=-1):
    powers = np.exp(logits - logits.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def centered(logits, axis=-1):
    """Logits less their mean, which a softmax does not keep."""
    return logits - logits.mean(axis, keepdims=True)
