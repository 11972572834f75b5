"""The errors of swift_tuners; each is also a standard error.

A message says what was given, what was expected, and what to do.
"""

from __future__ import annotations


class SwiftTunersError(Exception):
    """Root of all errors that swift_tuners raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return Exception.__str__(self)


class UnknownName(SwiftTunersError, KeyError):
    """No component of this name is registered."""


class DuplicateName(SwiftTunersError, ValueError):
    """Two components of one kind claim the same name."""


class BrokenComponent(SwiftTunersError, TypeError):
    """A component's module does not define what its registry expects."""


class MissingDependency(SwiftTunersError, ImportError):
    """A component needs a package that is not installed."""


class InvalidName(SwiftTunersError, ValueError):
    """A tuner's name cannot be used as it is."""


class UnsupportedConfig(SwiftTunersError, ValueError):
    """A config, or an option in it, is none that can be attached to this model."""


class TargetNotFound(SwiftTunersError, ValueError):
    """A target names no module of the model."""


class CannotMerge(SwiftTunersError, ValueError):
    """A tuner cannot be folded into the host's weights."""


class InvalidCheckpoint(SwiftTunersError, ValueError):
    """A checkpoint's files are missing, truncated or foreign."""


class CheckpointMismatch(SwiftTunersError, ValueError):
    """A checkpoint belongs to another model than it is loaded into."""


class UntrustedModel(SwiftTunersError, ValueError):
    """Code that comes with a model would run, and it is not the user who named that model."""


class ModelNotFound(SwiftTunersError, FileNotFoundError):
    """No model of this name in any of the places where it may be."""


class InvalidModel(SwiftTunersError, ValueError):
    """A model's folder or file is incomplete, damaged or of an unknown kind."""
