"""Column layouts to conversations, one file a format; `swift_data.column_format` says what a format is."""
