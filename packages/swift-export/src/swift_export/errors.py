"""The errors of swift_export; each is also a standard error.

A message says what was given, what was expected, and what to do.
"""

from __future__ import annotations


class SwiftExportError(Exception):
    """Root of all errors that swift_export raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return Exception.__str__(self)


class InvalidExportArgs(SwiftExportError, ValueError):
    """Options that contradict each other, or name nothing to export."""


class OutputFolderTaken(SwiftExportError, FileExistsError):
    """The output folder holds something already."""


class ExportNotWritten(SwiftExportError, OSError):
    """The disk is full, or the output folder cannot be written."""


class ParityLost(SwiftExportError, ValueError):
    """The exported model answers otherwise than the trained one did."""
