"""Convolutions from images to feature maps on a group."""
