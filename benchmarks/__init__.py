"""One module a question; `python -m benchmarks` runs them all and writes RESULTS.md."""
