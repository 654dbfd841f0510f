"""The pictures of benchmarks/results, each a function of what is in the JSON files."""
