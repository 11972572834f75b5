"""Formats for models that carry no chat template; each file here is one, and its name is the family's name."""
