"""Processors for models whose own code is in their folders; one file each, named as the family."""
