"""The parts of the benchmarks, and what they share."""
