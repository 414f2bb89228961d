"""The parts of `scripts/benchmark_layers.py`."""
