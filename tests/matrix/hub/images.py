"""KerasHub's transformers over images and videos."""

from keras_hub import layers, models

from tests.matrix.case import BATCH, Case, made_up, numbers
from tests.matrix.hub.encoders import SIZES, without

IMAGE = {"image_shape": (8, 8, 3), "patch_size": 2}
VIT = {**IMAGE, **without(SIZES, "intermediate_dim"), "mlp_dim": 128}


def dino(name, **arguments):
    model = getattr(models, name)(**IMAGE, **SIZES, **arguments)
    return Case(model, made_up(model))


def mit():
    return models.MiTBackbone(
        layerwise_depths=[2, 2],
        num_layers=2,
        layerwise_num_heads=[2, 4],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[3, 3],
        layerwise_strides=[2, 2],
        image_shape=(16, 16, 3),
        hidden_dims=[16, 32],
    )


def swin():
    model = models.SwinTransformerBackbone(
        image_shape=(16, 16, 3),
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=2,
        patch_size=2,
        drop_path=0.0,
    )
    return Case(model, numbers(16, 16, 3))


def vit_det(**arguments):
    return models.ViTDetBackbone(
        hidden_size=32,
        global_attention_layer_indices=[1],
        num_output_channels=8,
        window_size=2,
        **{**IMAGE, **without(SIZES, "hidden_dim"), **arguments},
    )


def sam():
    side = 16
    model = models.SAMBackbone(
        image_encoder=vit_det(image_shape=(side, side, 3), patch_size=4),
        prompt_encoder=layers.SAMPromptEncoder(
            hidden_size=8,
            image_embedding_size=(4, 4),
            input_image_size=(side, side),
            mask_in_channels=8,
        ),
        mask_decoder=layers.SAMMaskDecoder(
            num_layers=2,
            hidden_size=8,
            intermediate_dim=32,
            num_heads=4,
            embedding_dim=8,
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=8,
        ),
    )
    prompts = {
        "images": numbers(side, side, 3),
        "points": numbers(1, 2),
        "labels": numbers(1) * 0 + 1,
        "boxes": numbers(1, 2, 2),
        "masks": numbers(0, 16, 16, 1).reshape(BATCH, 0, 16, 16, 1),
    }
    return Case(model, prompts, side)


def parseq():
    model = models.PARSeqBackbone(
        image_encoder=models.ViTBackbone(use_class_token=False, **VIT),
        vocabulary_size=64,
        max_label_length=5,
        decoder_hidden_dim=32,
        num_decoder_layers=2,
        num_decoder_heads=4,
        decoder_mlp_dim=128,
        dropout_rate=0.0,
        attention_dropout=0.0,
    )
    return Case(model, made_up(model))


def video_prism():
    model = models.VideoPrismBackbone(
        num_frames=2,
        num_spatial_layers=2,
        num_temporal_layers=2,
        num_auxiliary_layers=0,
        **IMAGE,
        **without(SIZES, "num_layers"),
    )
    return Case(model, made_up(model))


def depth_anything():
    model = models.DepthAnythingBackbone(
        image_encoder=models.DINOV2Backbone(
            image_shape=(16, 16, 3),
            patch_size=2,
            position_embedding_shape=(16, 16),
            **{**SIZES, "num_layers": 4},
        ),
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[8, 8, 8, 8],
        fusion_hidden_dim=8,
        head_hidden_dim=8,
        head_in_index=-1,
        feature_keys=["stage1", "stage2", "stage3", "stage4"],
    )
    return Case(model, made_up(model))


MODELS = {
    "DeiT": lambda: Case(models.DeiTBackbone(**IMAGE, **SIZES), numbers(8, 8, 3)),
    "DepthAnything": depth_anything,
    "DINOV2": lambda: dino("DINOV2Backbone", position_embedding_shape=(8, 8)),
    "DINOV2 (SwiGLU)": lambda: dino(
        "DINOV2Backbone", position_embedding_shape=(8, 8), use_swiglu_ffn=True
    ),
    "DINOV3": lambda: dino("DINOV3Backbone"),
    "MiT": lambda: Case(mit(), numbers(16, 16, 3)),
    "PARSeq": parseq,
    "SAM": sam,
    "SegFormer": lambda: Case(
        models.SegFormerBackbone(image_encoder=mit(), projection_filters=16), numbers(16, 16, 3)
    ),
    "Swin": swin,
    "VideoPrism": video_prism,
    "ViT": lambda: Case(models.ViTBackbone(**VIT), numbers(8, 8, 3)),
    "ViTDet": lambda: Case(vit_det(), numbers(8, 8, 3)),
}
