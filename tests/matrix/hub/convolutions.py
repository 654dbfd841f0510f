"""KerasHub's convolutional backbones."""

from keras_hub import models

from tests.matrix.case import Case, numbers

SIDE = {"image_shape": (32, 32, 3)}


def image(name, **arguments):
    return lambda: Case(getattr(models, f"{name}Backbone")(**SIDE, **arguments), numbers(32, 32, 3))


def resnet(side, stages, **arguments):
    return models.ResNetBackbone(
        input_conv_filters=[16],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64] * stages,
        stackwise_num_blocks=[2 if stages == 2 else 1] * stages,
        stackwise_num_strides=[1, *[2] * (stages - 1)],
        block_type="bottleneck_block",
        image_shape=(side, side, 3),
        **arguments,
    )


def efficient_net():
    model = models.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0, 1.0],
        stackwise_depth_coefficients=[1.0, 1.0],
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[2, 2],
        stackwise_input_filters=[16, 16],
        stackwise_output_filters=[16, 24],
        stackwise_expansion_ratios=[1, 6],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
        stackwise_strides=[1, 2],
        stackwise_block_types=["v1", "v1"],
        stackwise_force_input_filters=[0, 0],
        stackwise_nores_option=[False, False],
        input_shape=(32, 32, 3),
        num_features=64,
    )
    return Case(model, numbers(32, 32, 3))


def retina_net():
    model = models.RetinaNetBackbone(
        image_encoder=resnet(64, 4),
        min_level=3,
        max_level=5,
        use_p5=False,
        image_shape=(64, 64, 3),
    )
    return Case(model, numbers(64, 64, 3))


def deep_lab():
    model = models.DeepLabV3Backbone(
        image_encoder=resnet(64, 4),
        projection_filters=8,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[6, 12, 18],
        image_shape=(64, 64, 3),
    )
    return Case(model, numbers(64, 64, 3))


# Of each stage of MobileNetV5: values of its first and of its other two blocks.
MOBILE_NET_V5 = {
    "stackwise_block_types": (["er"], ["uir", "uir"]),
    "stackwise_num_filters": ([24], [48, 48]),
    "stackwise_strides": ([2], [2, 1]),
    "stackwise_act_layers": (["relu"], ["relu", "relu"]),
    "stackwise_exp_ratios": ([4.0], [6.0, 6.0]),
    "stackwise_se_ratios": ([0.0], [0.0, 0.0]),
    "stackwise_dw_kernel_sizes": ([0], [5, 5]),
    "stackwise_exp_kernel_sizes": ([3], [0, 0]),
    "stackwise_pw_kernel_sizes": ([1], [0, 0]),
    "stackwise_use_cpe": ([False], [False, False]),
    **{
        f"stackwise_{name}": ([0], [0, 0])
        for name in (
            "dw_start_kernel_sizes",
            "dw_end_kernel_sizes",
            "num_heads",
            "key_dims",
            "value_dims",
            "kv_strides",
        )
    },
}

MODELS = {
    "CSPNet": image(
        "CSPNet",
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=1,
        stem_padding="same",
        stackwise_depth=[1, 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[8, 16],
        block_type="dark_block",
        bottle_ratio=[0.5],
        block_ratio=[1.0],
        expand_ratio=[2.0],
        stage_type="csp",
    ),
    "DeepLabV3": deep_lab,
    "DenseNet": image("DenseNet", stackwise_num_repeats=[2, 2], growth_rate=8),
    "EfficientNet": efficient_net,
    "HGNetV2": image(
        "HGNetV2",
        depths=[1, 1],
        embedding_size=8,
        hidden_sizes=[16, 32],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[(8, 8, 16, 1, 1, 3), (16, 8, 32, 1, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
    ),
    "MobileNet": image(
        "MobileNet",
        stackwise_expansion=[[40, 56], [64, 72]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[16, 16], [24, 24]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=64,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=64,
        squeeze_and_excite=0.5,
    ),
    "MobileNetV5": image(
        "MobileNetV5",
        stackwise_num_blocks=[1, 2],
        use_msfa=False,
        **{name: list(stages) for name, stages in MOBILE_NET_V5.items()},
    ),
    "ResNet": lambda: Case(resnet(32, 2, use_pre_activation=False), numbers(32, 32, 3)),
    "RetinaNet": retina_net,
    "VGG": image("VGG", stackwise_num_repeats=[1, 1], stackwise_num_filters=[8, 16]),
    "Xception": image(
        "Xception",
        stackwise_conv_filters=[[8, 16], [16, 32]],
        stackwise_pooling=[True, False],
    ),
}
