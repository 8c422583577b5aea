"""The paper's experiments: its networks, its data, and every run rehearsed."""

import types

import numpy as np
import pytest
import tensorflow as tf
from examples.test_examples import read
from examples.test_examples import run
from paper import datasets
from paper import networks

import keras_df as kdf

slow = pytest.mark.slow
SCRIPT = "paper/experiments.py"
EXPERIMENTS = [
    "vgg16_cifar10",
    "resnet56_cifar10",
    "resnet56_cifar100",
    "resnet18_imagenet",
    "resnet50_imagenet",
    "mobilenetv2_imagenet",
]


def options(**given):
    return types.SimpleNamespace(
        **({"weights": None, "batch": 4, "classes": 10} | given)
    )


@pytest.mark.parametrize(
    "network, size, classes, macs, params",
    [
        # Tables 3 and 5: 50 % of ResNet56 is 62.7 M, 60 % of VGG16 is 125 M.
        (networks.vgg16, 32, 10, 125e6 / 0.4, 14.7e6),
        (networks.resnet56, 32, 10, 2 * 62.7e6, 0.85e6),
        # Table 6: half of ResNet18 is 0.91 G; its parameters are well known.
        (networks.resnet18, 224, 1000, 2 * 0.91e9, 11.69e6),
        pytest.param(
            networks.mobilenet_v2, 224, 1000, 0.30e9, 3.5e6, marks=slow
        ),
        # Keras's ResNet50 halves its maps a layer earlier than the paper's.
        pytest.param(networks.resnet50, 224, 1000, 3.87e9, 25.6e6, marks=slow),
    ],
)
def test_networks_cost_what_is_published(network, size, classes, macs, params):
    model = network(options(image_size=size, classes=classes))
    count = kdf.count(model)
    assert count.macs == pytest.approx(macs, rel=0.02)
    assert count.params == pytest.approx(params, rel=0.02)


def test_synthetic_data_has_the_shape_of_the_real():
    data = datasets.synthetic(options(image_size=32))
    images, labels = next(iter(data.train))
    assert images.shape == (4, 32, 32, 3)
    assert images.dtype == "float32"
    assert sum(len(labels) for _, labels in data.test) == data.images == 8
    again = [int(y) for _, labels in data.test for y in labels]
    assert max(again) < 10


def test_small_images_are_shifted_and_large_ones_cropped():
    image = tf.ones((32, 32, 3), "uint8")
    shifted = np.stack([datasets.shift(image, 32) for _ in range(8)])
    assert set(np.unique(shifted)) == {0.0, 1.0}
    photograph = tf.ones((250, 300, 3), "uint8")
    np.testing.assert_allclose(
        datasets.crop_at_random(photograph, 224), np.ones((224, 224, 3)), 1e-5
    )


def test_the_centre_is_cropped():
    """A bright square in the middle of a photograph fills its place."""
    photograph = np.zeros((512, 1024, 3), "uint8")
    photograph[32:480, 288:736] = 100  # 448 pixels: 7/8 of the shorter side.
    image = datasets.crop_the_centre(tf.constant(photograph), 224)
    assert image.shape == (224, 224, 3)
    assert np.mean(np.asarray(image) > 99) > 0.98


def test_encoded_images_are_decoded():
    pixels = np.arange(48, dtype="uint8").reshape(4, 4, 3)
    encoded = tf.io.encode_png(pixels)
    np.testing.assert_array_equal(datasets.decoded(encoded), pixels)


def test_costs_are_printed(tmp_path):
    """Forward, and twice that backward, for every image of every epoch."""
    printed = run(SCRIPT, tmp_path, "--cost", "--budget=0.5")
    rows = {x.split()[0]: x.split()[1:] for x in printed.splitlines()[2:]}
    assert list(rows) == EXPERIMENTS
    epoch, train, search, finetune = (
        float(x.replace(",", "")) for x in rows["resnet18_imagenet"]
    )
    assert epoch == pytest.approx(1.82 * 2 * 3 * 1.281, rel=0.02)
    assert train == pytest.approx(90 * epoch, rel=0.01)
    assert search == epoch
    assert finetune == pytest.approx(50 * epoch, rel=0.01)


@slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_rehearsed(name, tmp_path):
    flags = (f"--experiment={name}", "--synthetic", "--out=out")
    run(SCRIPT, tmp_path, *flags, "--budget=0.5")
    report = read(tmp_path / "out" / "report.json")
    share = report["flops_after"] / report["flops_before"]
    assert 0.47 < share <= 0.5
    for when in ("before", "recalibrated", "finetuned"):
        assert 0 <= report[f"accuracy_{when}"] <= 1
    for file in ("original.keras", "plan.json", "small.keras"):
        assert (tmp_path / "out" / file).exists()


@slow
def test_a_pretrained_network_and_the_paper_s_search(tmp_path):
    """Stages that are done are not repeated; a network can be brought."""
    flags = ("--experiment=resnet18_imagenet", "--synthetic")
    run(SCRIPT, tmp_path, *flags, "--out=first", "--teacher")
    known = tmp_path / "first" / "original.keras"
    run(
        SCRIPT,
        tmp_path,
        *flags,
        "--out=second",
        f"--pretrained={known}",
        "--config=paper",
    )
    adopted = tmp_path / "second" / "original.keras"
    assert adopted.read_bytes() == known.read_bytes()
    before = (tmp_path / "first" / "plan.json").read_text()
    run(SCRIPT, tmp_path, *flags, "--out=first", "--budget=0.3")
    assert (tmp_path / "first" / "plan.json").read_text() == before


def test_plans_of_one_network_are_not_used_on_another(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "original.keras").write_bytes(b"one")
    (tmp_path / "other.keras").write_bytes(b"two")
    flags = ("--experiment=resnet18_imagenet", "--synthetic", "--out=out")
    with pytest.raises(AssertionError, match="another network than --pretr"):
        run(SCRIPT, tmp_path, *flags, "--pretrained=other.keras")
    assert (tmp_path / "out" / "original.keras").read_bytes() == b"one"


@slow
def test_each_budget_has_a_plan_of_its_own(tmp_path):
    flags = ["--experiment=resnet18_imagenet", "--synthetic"]
    run(SCRIPT, tmp_path, *flags, "--budget=0.5")
    folder = tmp_path / "resnet18_imagenet_rehearsal"
    flags.append(f"--pretrained={folder / 'default_0.5' / 'original.keras'}")
    run(SCRIPT, tmp_path, *flags, "--budget=0.3")
    for share in ("0.5", "0.3"):
        plan = read(folder / f"default_{share}" / "plan.json")
        assert plan["budget"] == [f"FLOPs({share})"]
