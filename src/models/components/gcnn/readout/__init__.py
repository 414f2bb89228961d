"""Convolutions from feature maps on a group to fields on the plane."""
