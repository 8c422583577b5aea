"""The paper's networks: images with values in 0-255 in, logits out."""

import keras
from keras import layers

WEIGHT_DECAY = 1e-4


def vgg16(experiment):
    """VGG16 with BatchNormalization and one Dense layer, as for CIFAR.

    Reference: Simonyan and Zisserman, Very deep convolutional networks for
    large-scale image recognition, 2014.
    """
    inputs, x = _scaled_inputs(experiment)
    blocks = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    for block, (filters, count) in enumerate(blocks, 1):
        for step in range(1, count + 1):
            x = _convolution(x, filters, 3, 1, f"block{block}_{step}")
        # CIFAR's 32 pixels end here: the last maps are 2 wide, then 1.
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return _classifier(inputs, x, experiment, "vgg16")


def resnet56(experiment):
    """ResNet for CIFAR: 3 stages of 9 blocks, shortcuts without weights.

    Reference: He et al., Deep residual learning for image recognition, 2015.
    """
    inputs, x = _scaled_inputs(experiment)
    x = _convolution(x, 16, 3, 1, "stem")
    x = _stages(x, (16, 32, 64), 9, padded)
    return _classifier(inputs, x, experiment, "resnet56")


def resnet18(experiment):
    """ResNet18, which `keras.applications` does not have.

    Reference: He et al., Deep residual learning for image recognition, 2015.
    """
    inputs, x = _scaled_inputs(experiment)
    x = _convolution(x, 64, 7, 2, "stem")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    x = _stages(x, (64, 128, 256, 512), 2, projected)
    return _classifier(inputs, x, experiment, "resnet18")


def resnet50(experiment):
    return _application(experiment, "ResNet50")


def mobilenet_v2(experiment):
    return _application(experiment, "MobileNetV2")


def _application(experiment, name):
    """A network of `keras.applications` with its preprocessing inside."""
    shape = (experiment.image_size, experiment.image_size, 3)
    network = getattr(keras.applications, name)(
        weights=experiment.weights,
        classes=experiment.classes,
        classifier_activation=None,
        input_shape=shape,
    )
    inputs = keras.Input(shape)
    if name == "ResNet50":
        # `preprocess_input` of ResNet50: to BGR, less the mean of ImageNet.
        mean = layers.Normalization(
            mean=[103.939, 116.779, 123.68], variance=[1, 1, 1], name="mean"
        )
        x = mean(inputs[..., ::-1])
    else:
        x = layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
    return keras.Model(inputs, network(x), name=name.lower())


def _scaled_inputs(experiment):
    """Inputs, and the same with about zero mean and unit variance."""
    inputs = keras.Input((experiment.image_size, experiment.image_size, 3))
    return inputs, layers.Rescaling(1 / 64, offset=-2, name="rescale")(inputs)


def _convolution(x, filters, size, strides, name, activate=True):
    """Convolution, BatchNormalization and ReLU."""
    x = layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        # `L2` has no factor of one half.
        kernel_regularizer=keras.regularizers.L2(WEIGHT_DECAY / 2),
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, name=f"{name}_bn"
    )(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activate else x


def _stages(x, widths, blocks, shortcut):
    for stage, filters in enumerate(widths, 1):
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            name = f"stage{stage}_{block}"
            x = _residual(x, filters, strides, shortcut, name)
    return x


def _residual(x, filters, strides, shortcut, name):
    beside = shortcut(x, filters, name) if strides > 1 else x
    x = _convolution(x, filters, 3, strides, f"{name}_a")
    x = _convolution(x, filters, 3, 1, f"{name}_b", activate=False)
    x = layers.Add(name=f"{name}_add")([x, beside])
    return layers.ReLU(name=f"{name}_relu")(x)


def padded(x, filters, name):
    """Option A: every other pixel, zeros for the channels that are new."""
    more = (filters - x.shape[-1]) // 2
    return keras.ops.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [more, more]])


def projected(x, filters, name):
    """Option B: a convolution of 1 x 1."""
    return _convolution(x, filters, 1, 2, f"{name}_shortcut", activate=False)


def _classifier(inputs, x, experiment, name):
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(experiment.classes, name="logits")(x)
    return keras.Model(inputs, x, name=name)
