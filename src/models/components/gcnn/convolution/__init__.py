"""Convolutions between feature maps on a group."""
