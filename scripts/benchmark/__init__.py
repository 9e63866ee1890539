"""The benchmark behind `scripts/bench`: groups of rows, a table of goals, charts."""
