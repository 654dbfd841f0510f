"""Makes the pictures of benchmarks/results again from the JSON files beside them; trains nothing.

    python benchmarks/pictures.py
    python benchmarks/pictures.py --only sentiment overview
    python benchmarks/pictures.py --demo saved_models/help_en_de.json

Each benchmark draws its pictures by the same functions, which are in benchmarks/drawings. The
results of the demo are not kept: its two pictures are drawn from the file that `make demo` writes.
"""

import json
from pathlib import Path

from drawings import repairs, reviews, topics, translators
from reports import arguments, result, smoke_folder

from tfprune.demo import draw_pareto, draw_survivors

DECODERS = ("ssru", "self_attention")
# Name of a picture to the JSON file that it is drawn from, and the function that draws it.
PICTURES = {
    "overview": ("sentiment", reviews.overview),
    "sentiment": ("sentiment", reviews.by_method),
    "sentiment_survivors": ("sentiment", reviews.left),
    "sentiment_heads": ("sentiment_heads", reviews.heads),
    "sentiment_heads_survivors": ("sentiment_heads", reviews.left),
    "translation": ("translation", translators.group_lasso),
    "translation_survivors": ("translation", translators.group_lasso_left),
    "every_size": ("every_size", translators.every_size),
    "device": ("device", translators.device),
    **{f"lottery_{d}": (f"lottery_{d}", translators.lottery) for d in DECODERS},
    **{
        f"lottery_{d}_{name}": (f"lottery_{d}", translators.search(name))
        for d in DECODERS
        for name in translators.SEARCHES
    },
    "multilingual": ("multilingual", topics.by_size),
    **{
        f"multilingual_sharing_{name}": ("multilingual", topics.sharing(name))
        for name in topics.SHARING
    },
    "repair_minilm": ("repair_minilm", repairs.minilm),
    "repair_translator": ("repair_translator", repairs.translator),
}
DEMO = {"demo_pareto": draw_pareto, "demo_survivors": draw_survivors}


def main():
    """Draws what is asked for."""
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    parser.add_argument("--demo", type=Path, help="results of the demo, and only its pictures")
    options = parser.parse_args()
    if options.demo:
        drawn = {name: (options.demo, draw) for name, draw in DEMO.items()}
    else:
        drawn = {name: PICTURES[name] for name in options.only}
        drawn = {name: (result(f"{stem}.json"), draw) for name, (stem, draw) in drawn.items()}
    if options.smoke:
        smoke_folder()
    for name, (source, draw) in drawn.items():
        draw(json.loads(source.read_text()), result(f"{name}.png"))
        print(name, flush=True)


if __name__ == "__main__":
    main()
