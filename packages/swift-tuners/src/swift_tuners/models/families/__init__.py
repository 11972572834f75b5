"""What looking cannot see: one small file for each such architecture, named as its model type (hyphens as underscores).

A file defines `map_modules(model, found)`, which puts right the `ModuleMap` that looking found.
"""
