"""Files to raw rows, one file a kind; `swift_data.source` says what a source is."""
