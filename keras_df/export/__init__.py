"""Files that run elsewhere, verified against the model they come from."""

from keras_df.export.latency import Timing as Timing
from keras_df.export.latency import benchmark as benchmark
from keras_df.export.latency_table import measure_latency as measure_latency
from keras_df.export.litert import litert as litert
from keras_df.export.onnx import onnx as onnx
from keras_df.export.saved_model import saved_model as saved_model
