"""The picture of README.md: accuracy against speed of MiniLM, pruned by three rules.

    python benchmarks/overview.py

Draws what benchmarks/sentiment.py has written to benchmarks/results/sentiment.json; nothing is
trained or timed. Written to benchmarks/results/overview.png.
"""

import json

from drawings.reviews import overview
from reports import arguments, result, smoke_folder


def main():
    options = arguments(__doc__).parse_args()
    results = json.loads(result("sentiment.json").read_text())
    if options.smoke:
        smoke_folder()
    overview(results, result("overview.png"))


if __name__ == "__main__":
    main()
