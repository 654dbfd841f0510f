"""What the benchmarks of translators report alike: scores, sizes and speeds of finished models."""

import math

from reports import about, in_words

from tfprune.translation import export_translator, paired_bootstrap, words_per_second

# The student of the benchmarks of files and of shortlists, as large as the demo's.
STUDENT = {
    "encoder_layers": 4,
    "decoder_layers": 1,
    "model_dim": 128,
    "feed_forward_dim": 768,
    "num_heads": 8,
    "dropout": 0.1,
}


def export_once(recipe, model, path, quantize=None):
    """Writes the file of a model unless it is there."""
    if not path.exists():
        export_translator(recipe.translator(model), path, quantize)
    return path


def measured(script, recipe, made, files, pairs, timed=200):
    """Results as they are written to JSON.

    Args:
        script: The benchmark's own file.
        recipe: The `Recipe` of the models.
        made: Name to model; one is called `"dense"`, with which the others are compared.
        files: Name to LiteRT file; `"<name> int8"` where there is one in int8 too.
        pairs: The test set.
        timed: On how many of its sentences speed is measured.
    """
    rows = {name: recipe.scores(name, model, pairs) for name, model in made.items()}
    speeds = words_per_second(files, [source for source, _ in pairs[:timed]])
    translations = {name: row["hypotheses"] for name, row in rows.items()}
    dense = translations.pop("dense")
    tests = {}
    if translations:
        tests = paired_bootstrap([target for _, target in pairs], dense, translations)

    def of_files(name):
        for kind in ("", " int8"):
            if name + kind in files:
                suffix = kind.strip() and f"_{kind.strip()}"
                yield f"bytes{suffix}", files[name + kind].stat().st_size
                yield f"speed{suffix}", speeds[name + kind]

    return {
        **about(script, "ai-edge-litert", "sacrebleu"),
        "sizes": {
            "training_pairs": len(recipe.train_pairs),
            "test_pairs": len(pairs),
            **recipe.shape,
            "vocabulary": recipe.vocabulary_size,
        },
        "signatures": [rows["dense"]["bleu_signature"], rows["dense"]["chrf_signature"]],
        "models": {
            name: {
                "bleu": row["bleu"],
                "chrf": row["chrf"],
                "parameters": row["parameters"],
                "groups": row["groups"],
                "p_bleu": tests.get(name, {}).get("bleu_p"),
                **dict(of_files(name)),
            }
            for name, row in rows.items()
        },
    }


def circumstances(results, epochs=""):
    """The lines over a table: task, machine, versions and the signatures of the metrics."""
    return [
        f"English to German help text, {results['sizes']['test_pairs']} test sentences; "
        f"{epochs}{in_words(results)}; LiteRT on one thread.",
        f"{results['signatures'][0]}; {results['signatures'][1]}.",
        "",
    ]


def p_value(row):
    """The p of a row as text; nothing for the dense model."""
    p = row["p_bleu"]
    return "" if p is None or math.isnan(p) else f"{p:.3f}"
