"""A student of this package as a model of CTranslate2: the same weights, another engine."""

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerSpec
from keras import ops

from tfprune.keras_private.attention import projections
from tfprune.translation.student_layers import sinusoids

EPSILON = 1e-6  # Of the student's normalizations.
SIDES = ("encoder", "decoder")


def convert(model, vocabulary, folder, max_length=64, shortlist=None):
    """Writes a whole student with self-attention in its decoder, in float.

    Args:
        model: A student of `tfprune.translation.student(decoder="self_attention")`, not pruned:
            all its layers have as many heads.
        vocabulary: Its vocabulary.
        folder: A folder that does not exist.
        max_length: The longest sentence, in tokens.
        shortlist: A `Shortlist`, written as CTranslate2's vocabulary map.
    """
    layers = {layer.name: layer for layer in model.layers}
    depths = [sum(f"{part}_{i}_ffn_in" in layers for i in range(99)) for part in SIDES]
    heads = layers["encoder_0_attention"].num_heads
    spec = TransformerSpec.from_config(tuple(depths), heads, pre_norm=True)
    table = number(layers["embedding"].embeddings)
    positions = np.arange(max_length + 1, dtype="float32")
    for side, part in ((spec.encoder, "encoder"), (spec.decoder, "decoder")):
        embeddings = side.embeddings[0] if isinstance(side.embeddings, list) else side.embeddings
        embeddings.weight = table
        side.position_encodings.encodings = sinusoids(positions, table.shape[1], np)
        normalization(side.layer_norm, layers[f"{part}_norm"])
        for i, block in enumerate(side.layer):
            attention(block.self_attention, layers, f"{part}_{i}_attention")
            if part == "decoder":
                attention(block.attention, layers, f"{part}_{i}_cross_attention")
            dense(block.ffn.linear_0, layers[f"{part}_{i}_ffn_in"])
            dense(block.ffn.linear_1, layers[f"{part}_{i}_ffn_out"])
            normalization(block.ffn.layer_norm, layers[f"{part}_{i}_ffn_norm"])
    spec.decoder.projection.weight = table
    spec.config.layer_norm_epsilon = EPSILON
    tokens = pieces(vocabulary)
    spec.config.bos_token, spec.config.eos_token = tokens[1], tokens[2]
    spec.config.unk_token, spec.config.decoder_start_token = tokens[3], tokens[1]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.validate()
    spec.optimize()
    folder.mkdir(parents=True)
    if shortlist is not None:
        path = folder / "vmap.txt"
        always = " ".join(tokens[i] for i in shortlist.frequent)
        called_for = (
            f"{token}\t{' '.join(tokens[i] for i in dict.fromkeys(row))}"
            for token, row in zip(tokens, shortlist.lists, strict=True)
        )
        path.write_text("\n".join([f"\t{always}", *called_for]) + "\n")
    spec.save(str(folder))


def pieces(vocabulary):
    """A name for each unit; CTranslate2 knows units by name."""
    return ["<blank>", "<s>", "</s>", "<unk>", *(f"u{i}" for i in range(4, len(vocabulary)))]


class Engine:
    """Translates ids one sentence at a time, as `LiteRTTranslator.words` does.

    Args:
        folder: What `convert` wrote.
        vocabulary: The vocabulary.
        compute: `"int8"` or `"float32"`.
        max_length: The longest translation, in tokens.
        threads: Threads of one translation.
        use_map: Whether the vocabulary map is used.
    """

    def __init__(self, folder, vocabulary, compute, max_length, threads=1, use_map=False):
        self.engine = ctranslate2.Translator(
            str(folder), "cpu", compute_type=compute, inter_threads=1, intra_threads=threads
        )
        self.tokens = pieces(vocabulary)
        self.numbers = {token: i for i, token in enumerate(self.tokens)}
        self.options = {
            "beam_size": 1,
            "max_decoding_length": max_length,
            "max_input_length": 0,
            "use_vmap": use_map,
            "return_end_token": True,
        }

    def words(self, ids):
        """Ids of the translation, the end included."""
        return self.translate_all([ids])[0]

    def translate_all(self, batch):
        """Ids of the translations of several sentences at once."""
        found = self.engine.translate_batch(
            [[self.tokens[i] for i in ids] for ids in batch],
            max_batch_size=len(batch),
            **self.options,
        )
        return [[self.numbers[token] for token in result.hypotheses[0]] for result in found]


def number(variable):
    return np.ascontiguousarray(ops.convert_to_numpy(variable), dtype="float32")


def normalization(spec, layer):
    spec.gamma, spec.beta = number(layer.gamma), number(layer.beta)


def dense(spec, layer):
    spec.weight, spec.bias = np.ascontiguousarray(number(layer.kernel).T), number(layer.bias)


def attention(spec, layers, name):
    of_layer = projections(layers[name])
    normalization(spec.layer_norm, layers[f"{name}_norm"])
    parts = [
        (number(part.kernel).reshape(part.kernel.shape[0], -1).T, number(part.bias).reshape(-1))
        for part in (of_layer.query, of_layer.key, of_layer.value)
    ]
    out = number(of_layer.output.kernel)
    # CTranslate2 keeps queries, keys and values as one product, and of another sequence two.
    cuts = [parts] if len(spec.linear) == 2 else [parts[:1], parts[1:]]
    for linear, some in zip(spec.linear, cuts, strict=False):
        linear.weight = np.ascontiguousarray(np.concatenate([weight for weight, _ in some]))
        linear.bias = np.concatenate([bias for _, bias in some])
    spec.linear[-1].weight = np.ascontiguousarray(out.reshape(-1, out.shape[-1]).T)
    spec.linear[-1].bias = number(of_layer.output.bias)
