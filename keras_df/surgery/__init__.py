"""The surgeon: a model and a plan -> a smaller ordinary model."""

from keras_df.surgery import baselines as baselines
from keras_df.surgery.compress import compress as compress
from keras_df.surgery.fine_tune import fine_tune as fine_tune
from keras_df.surgery.recalibrate import recalibrate as recalibrate
from keras_df.surgery.reference import zeroed_consumers as zeroed_consumers
