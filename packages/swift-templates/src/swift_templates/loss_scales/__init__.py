"""Weights for parts of answers, one file each, found by name."""
