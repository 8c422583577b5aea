"""What a model's activations look like on a user's data."""

from keras_df.calibration.data import as_fit_reads as as_fit_reads
from keras_df.calibration.data import flat_inputs as flat_inputs
from keras_df.calibration.data import iterate_batches as iterate_batches
from keras_df.calibration.data import stream_batches as stream_batches
from keras_df.calibration.data import take_batches as take_batches
from keras_df.calibration.length import batch_count as batch_count
from keras_df.calibration.length import (
    is_of_unknown_length as is_of_unknown_length,
)
from keras_df.calibration.metric import metric_of_scheme as metric_of_scheme
from keras_df.calibration.metric import mix as mix
from keras_df.calibration.metric import moment_by_column as moment_by_column
from keras_df.calibration.metric import product_metric as product_metric
from keras_df.calibration.metric import weigh as weigh
from keras_df.calibration.moments import linear_rows as linear_rows
from keras_df.calibration.moments import moment_size as moment_size
from keras_df.calibration.moments import ridge as ridge
from keras_df.calibration.moments import second_moments as second_moments
