"""One file per kind of export, found by its name."""
