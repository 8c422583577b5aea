import pytest

import keras_df as kdf
from keras_df.report import layer_changes

METHODS = ("magnitude", "uniform_rank", "random")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["residual_model", "chain_model"])
def test_the_layers_add_up_to_the_plan(name, method, request):
    model = request.getfixturevalue(name)
    plan = getattr(kdf.baselines, method)(model, kdf.MACs(0.6))
    changes = layer_changes(model, plan)
    for resource in ("macs", "params"):
        sums = [sum(getattr(x, resource)[i] for x in changes) for i in (0, 1)]
        assert tuple(sums) == plan.costs[resource]


def test_before_is_what_count_says(chain_model):
    plan = kdf.baselines.magnitude(chain_model, kdf.MACs(0.6))
    counted = {x.name: x for x in kdf.count(chain_model).layers}
    for layer in layer_changes(chain_model, plan):
        assert layer.kind == counted[layer.name].kind
        assert layer.macs[0] == counted[layer.name].macs
        assert layer.params[0] == counted[layer.name].params


def test_a_layer_without_a_kernel_has_no_channels(chain_model):
    plan = kdf.baselines.magnitude(chain_model, kdf.MACs(0.6))
    found = {x.name: x for x in layer_changes(chain_model, plan)}
    assert found["bn"].channels == found["bn"].kept == 0
    assert found["bn"].params[1] < found["bn"].params[0]
    assert "relu" not in found


def test_another_models_plan_is_refused(chain_model, residual_model):
    plan = kdf.baselines.magnitude(chain_model, kdf.MACs(0.6))
    with pytest.raises(ValueError, match="another model"):
        layer_changes(residual_model, plan)
