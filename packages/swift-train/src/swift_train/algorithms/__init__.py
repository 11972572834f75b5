"""One file per algorithm, found by its name."""
