"""The errors of swift_cli; each is also a standard error.

A message says what was given, what was expected, and what to do.
"""

from __future__ import annotations


class SwiftCliError(Exception):
    """Root of all errors that swift_cli raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return Exception.__str__(self)


class UnknownOption(SwiftCliError, KeyError):
    """No option is called this, or more than one is."""


class InvalidValue(SwiftCliError, ValueError):
    """An option was given a value that it cannot hold."""


class InvalidCommandLine(SwiftCliError, ValueError):
    """Words on the command line that are neither an option nor a value of one."""


class InvalidYaml(SwiftCliError, ValueError):
    """A file of options that cannot be read, or that belongs to another command."""


class UnsupportedOption(SwiftCliError, TypeError):
    """An argument class declares a field that no command line can spell."""
