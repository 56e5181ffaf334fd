"""Figures that are no cost of a message: declares at once, distance, memory under a flood.

Each module here measures in a process of its own: `python -m benchmarks figures` runs them all.
"""
