"""Models for tools that do not take Keras 3 models."""

from keras_df.interop.conversion import to_tf_keras as to_tf_keras
from keras_df.interop.quantization import quantize_annotate as quantize_annotate
from keras_df.interop.ranges import calibrate_ranges as calibrate_ranges
