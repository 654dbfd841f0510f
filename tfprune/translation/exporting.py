"""Translators as files: SavedModel with text in and out, LiteRT with ids in and out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from tfprune import native_messages
from tfprune.arguments import integer, one_of
from tfprune.extras import require
from tfprune.files import atomic_write
from tfprune.translation.checking import check_ids, check_text
from tfprune.translation.decoding import StepDecoder
from tfprune.translation.litert_operations import (
    id_of_largest,
    take_as_embedding,
    take_as_is,
    take_quantized,
)
from tfprune.translation.searching import beam_search, greedy
from tfprune.translation.translator import Translator
from tfprune.translation.vocabulary import Vocabulary, vocabulary_path


@native_messages.filtered()
def export_translator(
    translator: Translator,
    path: str | os.PathLike,
    quantize: str | None = None,
    beam: int = 1,
) -> Path:
    """Writes a translator for deployment, whole or not at all.

    The file keeps the translator's `max_length` and shortlist, and is compared with the translator
    before it counts, on sentences of several lengths. Of words that are exactly equally likely a
    LiteRT file with a shortlist takes the first in the order of `Shortlist.candidates`, where the
    translator takes the lowest id.

    Args:
        translator: The translator; Keras must run on TensorFlow.
        path: A name ending in `.tflite` gives a LiteRT file whose signature `translate` maps ids
            `(1, length)` to ids, with its vocabulary beside it. Any other name gives a SavedModel
            that maps text to text; a folder that exists is replaced as by `tfprune.export`.
        quantize: `None` or `"dynamic_int8"`; LiteRT only.
        beam: Beginnings kept by beam search; 1 is greedy search.

    Returns:
        The path.

    Raises:
        ValueError: If an argument is out of place, or the file does not translate as the
            translator does. Nothing is written then.
    """
    from tfprune.export import (
        checked_target,
        convert_saved_model,
        is_saved_model,
        require_tensorflow,
    )

    require_tensorflow()
    if not isinstance(translator, Translator):
        raise ValueError(f"`translator` must be a Translator. Received: translator={translator!r}")
    path = checked_target(path)
    one_of("quantize", quantize, (None, "dynamic_int8"))
    beam = integer("beam", beam)
    if path.suffix != ".tflite":
        if quantize:
            raise ValueError(f"`quantize` applies to .tflite files. Received: path={str(path)!r}")
        with atomic_write(path, folder=True, may_replace=is_saved_model) as temporary:
            _save_text_model(translator, temporary, beam)
            check_text(translator, temporary, beam)
        return path
    with tempfile.TemporaryDirectory() as folder:
        _save_id_model(translator, folder, quantize, beam)
        content = convert_saved_model(folder, "translate", quantize)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        check_ids(translator, temporary, quantize, beam)
        translator.vocabulary.save(vocabulary_path(path))
    return path


def _save_id_model(translator, folder, quantize, beam):
    import tensorflow as tf

    take: Callable[..., Any] = take_as_embedding
    if translator.shortlist is not None:
        take = take_quantized if quantize else take_as_is
    translate = id_function(translator, take, beam)
    tf.saved_model.save(tf.Module(), str(folder), signatures={"translate": translate})


def id_function(translator: Translator, take: Callable[..., Any], beam: int = 1) -> Any:
    """The translation of one sentence as a `tf.function` without variables.

    Args:
        translator: The translator.
        take: Gives rows of an embedding, or of an output layer with a shortlist, as
            `keras.ops.take` does.
        beam: Beginnings kept by beam search; 1 is greedy search.

    Returns:
        Function of ids `(1, length)` that returns `{"words": ids}`, `(1, max_length)`.
    """
    import tensorflow as tf

    decoder = StepDecoder(translator.model, translator.max_length, take, translator.shortlist)
    values = [(v, keras.ops.convert_to_numpy(v)) for v in translator.model.variables]

    @tf.function(input_signature=[tf.TensorSpec((1, None), tf.int32, name="source")])
    def translate(source):
        # Converters leave variables inside a loop as they are, and LiteRT cannot find them there,
        # so the graph is made of constants.
        constants = [(variable, tf.constant(value)) for variable, value in values]
        with keras.StatelessScope(constants):
            if beam == 1:
                return {"words": greedy(decoder, source, batch=1, choose=id_of_largest)}
            return {"words": beam_search(decoder, source, beam, batch=1)[0]}

    return translate


def _save_text_model(translator, folder, beam):
    import tensorflow as tf

    text = require("tensorflow_text", extra="translation")
    module = tf.Module()
    module.model = translator.model
    module.max_length = tf.Variable(translator.max_length, trainable=False)
    module.tokenizer = text.SentencepieceTokenizer(
        model=translator.vocabulary.model_bytes, out_type=tf.int32
    )
    limit = translator.max_length

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="sentences")])
    def translate(sentences):
        ids = module.tokenizer.tokenize(sentences)[:, : limit - 1]
        empty = ids.row_lengths() == 0
        end = tf.fill((tf.shape(sentences)[0], 1), Vocabulary.end_id)
        ids = tf.concat([ids, end], axis=1).to_tensor(Vocabulary.pad_id)
        if beam == 1:
            words = greedy(translator.decoder, ids)
        else:
            words, _ = beam_search(translator.decoder, ids, beam)
        special = (words <= Vocabulary.end_id) | empty[:, None]
        kept = tf.ragged.boolean_mask(words, tf.logical_not(special))
        return {"translations": module.tokenizer.detokenize(kept)}

    module.translate = translate
    tf.saved_model.save(module, str(folder), signatures={"serving_default": translate})
