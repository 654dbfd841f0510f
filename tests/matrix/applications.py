"""Models of `keras.applications`, with random weights and small images.

The families differ in how they join channels: in a row, added, concatenated, weighed. Networks
of hundreds of layers are left out, which take minutes to export.
"""

from keras import applications

from tests.matrix.case import Case, numbers

SMALL = {"weights": None, "classes": 10}


def make(name, side=32, **arguments):
    def build():
        model = getattr(applications, name)(input_shape=(side, side, 3), **SMALL, **arguments)
        return Case(model, numbers(side, side, 3))

    return build


MODELS = {
    "ConvNeXtTiny": make("ConvNeXtTiny"),
    "DenseNet121": make("DenseNet121"),
    "EfficientNetB0": make("EfficientNetB0"),
    "MobileNetV1": make("MobileNet", alpha=0.25),
    "MobileNetV2": make("MobileNetV2", alpha=0.35),
    "MobileNetV3Small": make("MobileNetV3Small"),
    "ResNet50": make("ResNet50"),
    "VGG16": make("VGG16"),
}
