"""The mobile models of keras.applications, narrow, and a MobileNet that starts as XNNPACK wants."""

import functools

import keras
from keras.src.applications.nasnet import NASNet  # keras.applications has whole ones only

from zoo.blocks import depthwise, entry, head, image, pointwise
from zoo.registry import graph, register

A = keras.applications
OPTIONS = {"weights": None, "classes": 10, "classifier_activation": None}

NARROW_NASNET = {"num_blocks": 1, "penultimate_filters": 96, "stem_block_filters": 8}

MODELS = {
    "mobilenet": ("dense", A.MobileNet, {"alpha": 0.25}),
    "mobilenet_v2": ("dense", A.MobileNetV2, {"alpha": 0.35}),
    "mobilenet_v3_small": ("dense", A.MobileNetV3Small, {"alpha": 0.35}),
    "mobilenet_v3_minimalistic": (
        "dense",
        A.MobileNetV3Small,
        {"minimalistic": True, "input_shape": (64, 64, 3)},
    ),
    "mobilenet_v3_large": ("dense", A.MobileNetV3Large, {"alpha": 0.35}),
    "efficientnet_b0": ("dense", A.EfficientNetB0, {}),
    "efficientnet_v2_b0": ("dense", A.EfficientNetV2B0, {}),
    "nasnet_mobile": ("dense", A.NASNetMobile, {}),  # 771 layers: in the slow sweep
    "nasnet_mobile_of_one_block": (
        "dense",
        NASNet,
        {**NARROW_NASNET, "skip_reduction": False, "filter_multiplier": 2, "default_size": 224},
    ),
}


def _make(model, options):
    return model(**{"input_shape": (32, 32, 3), **OPTIONS, **options})


for name, (expect, model, options) in MODELS.items():
    register(name, expect, functools.partial(_make, model, options))


@graph("fast")
def mobilenet_with_padded_entry():
    inputs = image(32)
    x = entry(keras.layers.Rescaling(0.5)(inputs), 8)
    for filters, stride in ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (48, 2)):
        x = pointwise(depthwise(x, 3, stride), filters)
    return keras.Model(inputs, head(x))
