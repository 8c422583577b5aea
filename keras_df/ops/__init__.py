"""Tensor maths of the method: no layer, no graph, `keras.ops` only."""

from keras_df.ops.compensation import compensation as compensation
from keras_df.ops.compensation import weigh as weigh
from keras_df.ops.masks import scheduled_sigmoid as scheduled_sigmoid
from keras_df.ops.masks import soft_count as soft_count
from keras_df.ops.matricization import dematricize as dematricize
from keras_df.ops.matricization import matricize as matricize
from keras_df.ops.spectrum import Spectrum as Spectrum
from keras_df.ops.spectrum import apply_gains as apply_gains
from keras_df.ops.spectrum import gram_spectrum as gram_spectrum
from keras_df.ops.thresholding import (
    singular_value_thresholding as singular_value_thresholding,
)
from keras_df.ops.thresholding import soft_gains as soft_gains
from keras_df.ops.thresholding import soft_rank as soft_rank
from keras_df.ops.thresholding import svd_thresholding as svd_thresholding
from keras_df.ops.thresholding import tanh_gains as tanh_gains
