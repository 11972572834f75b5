"""The errors of swift_templates; each is also a standard error.

A message says what was given, what was expected, and what to do.
"""

from __future__ import annotations


class SwiftTemplatesError(Exception):
    """Root of all errors that swift_templates raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return Exception.__str__(self)


class UnknownName(SwiftTemplatesError, KeyError):
    """No component of this name is registered."""


class DuplicateName(SwiftTemplatesError, ValueError):
    """Two components of one kind claim the same name."""


class BrokenComponent(SwiftTemplatesError, TypeError):
    """A component's module does not define what its registry expects."""


class MissingDependency(SwiftTemplatesError, ImportError):
    """A component needs a package that is not installed."""


class InvalidConversation(SwiftTemplatesError, ValueError):
    """A conversation cannot be asked or trained on as it stands."""


class InvalidObjects(SwiftTemplatesError, ValueError):
    """The boxes, points or polygons of a row cannot be trained on as they stand."""


class TokenizerNotFound(SwiftTemplatesError, FileNotFoundError):
    """A model folder holds no tokenizer.json."""


class InvalidModelFolder(SwiftTemplatesError, ValueError):
    """A file of a model folder cannot be read as what its name says."""


class ChatTemplateNotFound(SwiftTemplatesError, LookupError):
    """A model has no chat template and no family was named."""


class ChatTemplateError(SwiftTemplatesError, ValueError):
    """A chat template does not compile, or refuses or fails on a conversation."""


class RenderLimitExceeded(ChatTemplateError):
    """A chat template ran longer, or made more text, than it may."""


class TemplateMismatch(SwiftTemplatesError, ValueError):
    """What a template renders for training is not what it renders for serving, or cannot be told from it."""


class ResponsePrefixMissing(SwiftTemplatesError, ValueError):
    """An answer to train on does not begin with the response prefix that serving puts before it."""


class InvalidLossScale(SwiftTemplatesError, ValueError):
    """A loss scale's file or class is not what it should be."""


class SystemPromptNotFound(SwiftTemplatesError, FileNotFoundError):
    """The .txt file named as system prompt does not exist."""


class SampleTooLong(SwiftTemplatesError, ValueError):
    """A sample has more tokens than it may, and the truncation strategy is 'raise'."""


class InvalidTools(SwiftTemplatesError, ValueError):
    """Tools, or calls of them, are not what they should be, or a dialect cannot write them."""


class MediaRefused(SwiftTemplatesError, ValueError):
    """The policy does not allow to load a picture, video or sound: where it comes from, or how large it is."""


class InvalidMedia(SwiftTemplatesError, ValueError):
    """A picture, video or sound cannot be found, or read as what it should be."""


class InvalidMediaPolicy(SwiftTemplatesError, ValueError):
    """A rule for media cannot be kept as it stands."""


class LawBroken(SwiftTemplatesError, AssertionError):
    """A component breaks a law that its contract check states."""
