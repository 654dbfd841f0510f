"""KerasHub's models that read both images and text."""

from keras_hub import models

from tests.matrix.case import POSITIONS, WORDS, Case, made_up
from tests.matrix.hub.decoders import GROUPED, HEADS
from tests.matrix.hub.encoders import LENGTH, SIZES
from tests.matrix.hub.images import IMAGE


def towers(name, text_arguments, positions=POSITIONS, **arguments):
    """A vision and a text encoder beside each other."""
    words = {"vocabulary_size": WORDS, "embedding_dim": 32, **SIZES, **text_arguments}
    model = getattr(models, f"{name}Backbone")(
        vision_encoder=getattr(models, f"{name}VisionEncoder")(**IMAGE, **SIZES),
        text_encoder=getattr(models, f"{name}TextEncoder")(**words),
        **arguments,
    )
    return Case(model, made_up(model, positions=positions), positions)


def pali_gemma():
    model = models.PaliGemmaBackbone(
        image_size=8,
        vit_patch_size=2,
        vit_num_heads=4,
        vit_hidden_dim=32,
        vit_num_layers=2,
        vit_intermediate_dim=128,
        **GROUPED,
        **HEADS,
    )
    return Case(model, made_up(model))


def mmdit():
    from keras_hub.src.models.stable_diffusion_3.mmdit import MMDiT  # Not in its public names.

    model = MMDiT(
        patch_size=2,
        hidden_dim=32,
        num_layers=2,
        num_heads=4,
        position_size=8,
        qk_norm=None,
        dual_attention_indices=None,
        latent_shape=(8, 8, 4),
        context_shape=(None, 32),
        pooled_projection_shape=(16,),
    )
    return Case(model, made_up(model))


def flux():
    model = models.FluxBackbone(
        input_channels=8,
        hidden_size=32,
        mlp_ratio=4.0,
        num_heads=4,
        depth=2,
        depth_single_blocks=2,
        axes_dim=[2, 2, 4],
        theta=10000,
        use_bias=True,
        guidance_embed=False,
        image_shape=(6, 8),
        text_shape=(6, 8),
        image_ids_shape=(6, 3),
        text_ids_shape=(6, 3),
        y_shape=(8,),
    )
    return Case(model, made_up(model))


MODELS = {
    "CLIP": lambda: towers("CLIP", LENGTH, projection_dim=16),
    "Flux": flux,
    "MetaCLIP2": lambda: towers("MetaCLIP2", {}, projection_dim=16),
    "MMDiT": mmdit,
    "PaliGemma": pali_gemma,
    "SigLIP": lambda: towers("SigLIP", LENGTH, 8),  # All texts are of one length.
}
