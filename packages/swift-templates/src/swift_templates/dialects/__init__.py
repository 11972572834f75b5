"""Agent dialects, one a file; found by file name."""
