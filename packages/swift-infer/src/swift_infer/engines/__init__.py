"""One file per engine, found by its name."""
