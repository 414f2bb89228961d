"""Plumes of buoyant smoke: what they are, how they are simulated, stored and read."""
