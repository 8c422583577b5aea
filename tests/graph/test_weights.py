import numpy as np
import pytest

from keras_df.graph import analyze
from keras_df.graph.weights import check_weights


def test_finite_weights_pass(residual_model):
    check_weights(analyze(residual_model))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "layer, weight", [("block2_conv1", "kernel"), ("stem_bn", "moving_mean")]
)
def test_the_layer_and_the_weight_are_named(
    residual_model, layer, weight, value
):
    variable = getattr(residual_model.get_layer(layer), weight)
    changed = np.zeros(variable.shape)
    changed.flat[1] = value
    variable.assign(changed)
    with pytest.raises(ValueError, match=f"'{layer}'.*'{weight}'"):
        check_weights(analyze(residual_model))
