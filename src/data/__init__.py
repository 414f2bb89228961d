"""Data modules: where samples come from, how they are split, and how they reach the network."""
