"""The key of an encoding: a digest of all that decides about its samples, so that nothing stale is ever read.

What is not the same gets another key, and with it another folder: rows, the files of their media, the chat template,
the tokenizer, every option, and the code that encodes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import operator
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from swift_templates.media.policy import MediaPolicy
from swift_templates.media.processor import MediaProcessor
from swift_templates.messages import Media
from swift_templates.template import Template

from .chat_row import ChatRow
from .compression import data_suffix
from .row_sequence import OpenFile, Rows
from .source import find_source

logger = logging.getLogger(__name__)

_DIGEST_BYTES: Final = 20
# Besides our own, whose sources are looked at.
_PACKAGES: Final = ("tokenizers", "jinja2", "numpy")
_MEDIA_PACKAGES: Final = ("transformers", "pillow", "av", "soundfile")


def default_cache_dir() -> Path:
    """Return the folder 'encoded' in $SWIFT_CACHE, or else in $XDG_CACHE_HOME/swift or ~/.cache/swift."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SWIFT_CACHE") or home / "swift").expanduser() / "encoded"


def make_cache_key(*parts: object) -> str:
    """Return the key of an encoding.

    Args:
        parts: all that decides about the samples, as JSON can write it: fingerprints of the rows, of the template and
            of the code of an algorithm; its name; options.
    """
    return _digest([json.dumps(parts, sort_keys=True).encode()])


def fingerprint_rows(rows: Iterable[ChatRow], *, sees_media: bool = True) -> str:
    """Return a digest of all that rows say, in their order; where they came from does not matter.

    A local file of media counts by its path, its size and when it was changed; it is not read. Rows of files count by
    these files' bytes, by which of their rows they are and by how those are read, where that can be: it takes little
    time. Equal rows of other files then have another digest.

    Args:
        rows: are read once, one after the other, if at all.
        sees_media: whether their pictures, videos and sounds matter. Only reading the rows tells where those are.
    """
    if isinstance(rows, Rows) and not sees_media and (files := _file_facts(rows.files)) is not None:
        code = fingerprint_package(__package__)
        return _digest([json.dumps([files, code, _version("pyarrow")]).encode(), rows.numbers.tobytes()])
    return _digest(map(_row_bytes, rows))


def fingerprint_template(template: Template) -> str:
    """Return a digest of all that decides what a template makes of a conversation.

    These are its chat templates, its tokenizer with added and named tokens, what was said in its arguments (files that
    they name count by their content), the lengths and stop tokens of the model, its processor of media and the policy
    for those, and the code that encodes. A processor that cannot be described gets another digest each time: then
    nothing is found in a cache, rather than something that might be stale.
    """
    processor, policy = template._media._processor, template._media._policy
    packages = _PACKAGES if processor is None else (*_PACKAGES, *_MEDIA_PACKAGES)
    components = (*template._weighing.scales, template.dialect, template._box_writer.notation, processor)
    facts: dict[str, Any] = {
        "chat_templates": {name: each.source for name, each in template._renderer._templates.items()},
        "args": asdict(template.args),
        "system": template.system,
        "loss_scale": [_digest([_loss_scale_bytes(part)]) for part in template.args.loss_scale.split("+")],
        "named_tokens": template.tokenizer.named_tokens,
        "special_ids": template.tokenizer.special_ids,
        "stop_token_ids": sorted(template.stop_token_ids),
        "max_length": template.max_length,
        "media": None if processor is None else [_describe_processor(processor), _describe_policy(policy)],
        "versions": {name: _version(name) for name in packages},
        "code": fingerprint_package("swift_templates"),
        "components": [_describe_component(each) for each in components],
    }
    if any("strftime_now" in source for source in facts["chat_templates"].values()):
        # What it writes is another text tomorrow.
        facts["date"] = date.today().isoformat()
    return _digest([json.dumps(facts, sort_keys=True).encode(), _tokenizer_bytes(template)])


def sees_media(template: Template) -> bool:
    """Say whether a template shows pictures, videos and sounds; one without a processor refuses rows that have some."""
    return template._media._processor is not None


def fingerprint_package(name: str) -> str:
    """Return a digest of the sources of a package or module, which is found without being imported.

    A version says too little: it is the same for all states of a checkout.
    """
    found = importlib.util.find_spec(name)
    assert found is not None and found.origin is not None, "our own code asks for packages that are there"
    origin = Path(found.origin)
    files = sorted(origin.parent.rglob("*.py")) if found.submodule_search_locations else [origin]
    return _digest(
        part for file in files for part in (str(file.relative_to(origin.parent)).encode(), file.read_bytes())
    )


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[bool]:
    """Let one process at a time into a block; yield False where the file system cannot keep others out.

    The system itself lets go of the lock when its process ends, however that happens.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    # Left in its place afterwards: another process may be waiting on this very file.
    with contextlib.ExitStack() as closing:
        try:
            file = closing.enter_context((folder / ".lock").open("w"))
        except OSError as error:
            # All that is wanted may be there; if not, whoever writes it says what is wrong.
            logger.warning("%s cannot be written (%s); what it has is used", folder, error.strerror)
            yield False
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process encodes the same rows; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            logger.warning("%s cannot be locked (%s); other processes may do the same work", folder, error)
            yield False
            return
        yield True


def _file_facts(files: Sequence[OpenFile]) -> list[object] | None:
    """Return all that decides about the rows of files, or None where a file is not what it was when it was opened."""
    facts: list[object] = []
    for file in files:
        content = file.digest()
        if content is None:
            return None
        reading, card = file.reading, file.reading.card
        kind = [data_suffix(file.path.name), _describe_component(find_source(file.path))]
        known = None if card is None else [card.name, _describe_module(card.prepare), card.columns, card.constants]
        options = [reading.columns, reading.answers, reading.model_name, reading.model_author]
        # The order of names in a mapping is that of a row's columns.
        facts.append([content, kind, json.dumps([known, options], default=_describe_value)])
    return facts


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        # With its length, so that no two lists of parts are the same bytes.
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def _row_bytes(row: ChatRow) -> bytes:
    # The order of names in tools and arguments decides about the text, so they are not sorted.
    return json.dumps(_fields_of(row), default=_describe_value).encode()


_getters: dict[type, Callable[[object], tuple[object, ...]]] = {}


def _fields_of(value: object) -> list[object]:
    """Return what a dataclass says, whatever fields it has."""
    kind: type[Any] = type(value)
    getter = _getters.get(kind)
    if getter is None:
        # The class's module too: of a single name the getter would return no tuple.
        names = [each.name for each in fields(kind) if each.name != "origin"]
        getter = _getters[kind] = operator.attrgetter("__module__", *names)
    return [kind.__name__, *getter(value)]


def _medium_facts(medium: Media) -> list[object]:
    facts = _fields_of(medium)
    if isinstance(medium.source, str | os.PathLike):
        # An address, or text with a picture in it, is no file; one that is missing comes to light elsewhere.
        with contextlib.suppress(OSError, ValueError):
            found = os.stat(medium.source)
            facts += [found.st_size, found.st_mtime_ns]
    return facts


def _describe_value(value: object) -> object:
    """Return JSON for a value that is none: a message, a mapping, bytes, an array, a picture, a date."""
    if isinstance(value, Media):
        return _medium_facts(value)
    if is_dataclass(value):
        return _fields_of(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": _digest([bytes(value)])}
    if isinstance(value, np.ndarray):
        return {"array": _digest([np.ascontiguousarray(value).tobytes()]), "type": value.dtype.str, "of": value.shape}
    if isinstance(value, np.generic):
        return value.item()
    if callable(pixels := getattr(value, "tobytes", None)) and hasattr(value, "mode"):
        # A picture of Pillow's, which need not be installed.
        return {"pixels": _digest([pixels()]), "mode": str(value.mode), "size": getattr(value, "size", None)}
    if callable(items := getattr(value, "items", None)):
        return dict(items())
    return f"{type(value).__qualname__} {value!r}"


def _tokenizer_bytes(template: Template) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        template.tokenizer.save(path)
        return path.read_bytes()


def _loss_scale_bytes(part: str) -> bytes:
    """Return a part of the option, and what stands in it where it is a file."""
    return part.encode() + (Path(part).expanduser().read_bytes() if part.endswith(".json") else b"")


def _describe_component(component: object) -> list[str]:
    """Return the class of a component, which may be of the user's or of another distribution, and its file's digest."""
    return _describe_module(type(component))


def _describe_module(defined: object) -> list[str]:
    """Return where a class or function is defined, and its file's digest."""
    module, name = getattr(defined, "__module__", ""), getattr(defined, "__qualname__", repr(defined))
    path = getattr(sys.modules.get(module), "__file__", None)
    return [module, name, _digest([Path(path).read_bytes()] if path else [])]


def _describe_processor(processor: MediaProcessor) -> list[object]:
    described: list[object] = [f"{type(processor).__module__}.{type(processor).__qualname__}"]
    described += [sorted(processor.placeholders.items()), str(processor.sampling)]
    own = getattr(processor, "fingerprint", None)
    if isinstance(own, str):
        return [*described, own]
    logger.info("%s has no text 'fingerprint' that says what it does; its rows are not cached", described[0])
    return [*described, secrets.token_hex(8)]


def _describe_policy(policy: MediaPolicy) -> list[str]:
    return [f"{each.name}={getattr(policy, each.name)}" for each in fields(policy) if each.name != "resolver"]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
