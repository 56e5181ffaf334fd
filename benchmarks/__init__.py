"""Measure txamqpx against its peers: `python -m benchmarks` (benchmarks/README.md says how to read it)."""
