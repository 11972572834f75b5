"""What media may come from and how large they may be: the rules by which pictures, videos and sounds are loaded.

The defaults suit a server that is asked by strangers: nothing local, nothing remote, everything bounded. The errors
carry no paths and no addresses, since they may go back to whoever asked.
"""

from __future__ import annotations

import importlib
import ipaddress
import math
import os
import socket
import time
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TypeAlias

from ..errors import InvalidMediaPolicy, MediaRefused, MissingDependency

Resolver: TypeAlias = Callable[[str, int], Sequence[str]]
"""From a host's name and a port to the addresses of the host, as text."""

MIB = 1024 * 1024

_TOTALS = {
    "max_pixels": "max_total_pixels",
    "max_video_pixels": "max_total_pixels",
    "max_samples": "max_total_samples",
}


def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """Ask the operating system for the addresses of a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass
class Budget:
    """What the media of one conversation have used up so far, and when the time for all of them is over."""

    deadline: float
    """By time.monotonic."""
    pixels: int = 0
    samples: int = 0


@dataclass(frozen=True, kw_only=True)
class MediaPolicy:
    """Rules for loading media; the defaults suit a server.

    Raises:
        InvalidMediaPolicy: a root is no folder, a network cannot be read, or a limit is negative or no number.
    """

    roots: tuple[str | os.PathLike[str], ...] = ()
    """Folders whose files may be read, links followed; a relative path starts at the first. None: no local files."""
    allow_remote: bool = False
    """Whether http and https addresses may be fetched."""
    allowed_hosts: tuple[str, ...] | None = None
    """The only hosts to fetch from; '.example.org' means all below example.org. None: any that is public."""
    allowed_ports: tuple[int, ...] = ()
    """Ports to connect to besides 80 for http and 443 for https."""
    allowed_networks: tuple[str, ...] = ()
    """Networks ('10.1.0.0/16') to connect to though they are not public."""
    resolver: Resolver = resolve_by_system
    """How the name of a host becomes addresses. It is asked once a connection; only its answer is connected to."""
    ca_file: str | os.PathLike[str] | None = None
    """Certificates to trust instead of the system's, for https."""
    max_redirects: int = 3
    timeout_s: float = 20.0
    """For one fetch, from the name to the last byte, redirects included."""
    max_bytes: int = 32 * MIB
    """Of a file, as it is stored or sent."""
    max_pixels: int = 40_000_000
    """Width times height, of a picture or of a video's frame."""
    max_frames: int = 768
    """That are taken out of one video."""
    max_decoded_frames: int = 60_000
    """That a video has, taken or not."""
    max_video_pixels: int = 256_000_000
    """Width times height times the frames that are taken; three bytes each."""
    max_seconds: float = 600.0
    """Of a video or a sound."""
    max_samples: int = 60_000_000
    """Of a sound, all channels together, and of the one that comes out; four bytes each."""
    max_decode_s: float = 60.0
    """Time to decode one video."""
    max_media: int = 64
    """Pictures, videos and sounds of one conversation."""
    max_total_pixels: int = 256_000_000
    """Of a conversation's pictures and taken frames together; three bytes each."""
    max_total_samples: int = 120_000_000
    """Of a conversation's sounds together; four bytes each."""
    max_total_s: float = 180.0
    """Time to load all media of a conversation."""
    budget: Budget | None = field(default=None, repr=False, compare=False)
    """What the conversation has used up; `for_conversation` starts it. None: each medium is loaded for itself."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name.startswith(("max_", "timeout_")) and not (isinstance(value, (int, float)) and value >= 0):
                raise InvalidMediaPolicy(f"{each.name} is {value!r}; expected 0 or more")
        for root in self.roots:
            if not os.path.isdir(root):
                raise InvalidMediaPolicy(f"the root {os.fspath(root)!r} is no folder; give folders that exist")
        object.__setattr__(self, "roots", tuple(Path(os.path.realpath(root)) for root in self.roots))
        for network in self.allowed_networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise InvalidMediaPolicy(f"the network {network!r} cannot be read: {error}") from error

    @classmethod
    def trusted(cls, roots: Iterable[str | os.PathLike[str]], *, allow_remote: bool = False) -> MediaPolicy:
        """Rules for a run on the user's own files: read below `roots`, with limits that only stop accidents.

        What is remote is checked as on a server. `dataclasses.replace` changes single rules.
        """
        return cls(
            roots=tuple(roots),
            allow_remote=allow_remote,
            timeout_s=120.0,
            max_bytes=2048 * MIB,
            max_pixels=89_478_485,  # where Pillow begins to warn
            max_frames=4096,
            max_decoded_frames=2_000_000,
            max_video_pixels=2_000_000_000,
            max_seconds=6 * 3600.0,
            max_samples=1_000_000_000,
            max_decode_s=math.inf,
            max_media=4096,
            max_total_pixels=4_000_000_000,
            max_total_samples=2_000_000_000,
            max_total_s=math.inf,
        )

    def for_conversation(self, count: int) -> MediaPolicy:
        """Return the rules for loading the media of one conversation, one after the other.

        Args:
            count: of all of them.

        Raises:
            MediaRefused: there are too many.
        """
        if count > self.max_media:
            raise MediaRefused(
                f"the conversation has {count} pictures, videos and sounds, more than max_media={self.max_media}; "
                "give fewer, or raise max_media in the MediaPolicy"
            )
        return replace(self, budget=Budget(time.monotonic() + self.max_total_s))

    def deadline(self, seconds: float) -> float:
        """Return when a step that may take so many seconds has to end, by time.monotonic."""
        own = time.monotonic() + seconds
        return own if self.budget is None else min(own, self.budget.deadline)

    def check_time(self) -> None:
        """Refuse to go on where the time for all media of the conversation is over.

        Raises:
            MediaRefused: it is.
        """
        if self.budget is not None and time.monotonic() >= self.budget.deadline:
            raise MediaRefused(
                f"the conversation's media take longer than max_total_s={self.max_total_s}; give fewer or smaller "
                "ones, or raise max_total_s in the MediaPolicy"
            )


def check_limit(policy: MediaPolicy, limit: str, value: float, what: str) -> None:
    """Refuse what is larger than the policy allows, by itself or with the media that were loaded before it.

    Args:
        policy: has the limit.
        limit: the limit's name in the policy.
        value: what must not be larger.
        what: the kind of medium and what is counted, like "image: the width times the height".

    Raises:
        MediaRefused: `value` is larger, or no number.
    """
    most = getattr(policy, limit)
    if not value <= most:
        raise MediaRefused(
            f"{what} is more than {limit}={most}; give a smaller one, or raise {limit} in the MediaPolicy"
        )
    if policy.budget is None or limit not in _TOTALS:
        return
    total, used = _TOTALS[limit], policy.budget.samples if limit == "max_samples" else policy.budget.pixels
    if used + value > getattr(policy, total):
        raise MediaRefused(
            f"{what}, with those of the conversation's media before it, is more than {total}="
            f"{getattr(policy, total)}; give fewer or smaller ones, or raise {total} in the MediaPolicy"
        )


def need(module: str, kind: str) -> types.ModuleType:
    """Import an optional package.

    Raises:
        MissingDependency: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: soundfile without the library that it speaks to
        package = {"PIL": "pillow"}.get(module.partition(".")[0], module)
        raise MissingDependency(
            f"{package} is needed to load this {kind}; pip install 'swift-templates[media]'"
        ) from error
