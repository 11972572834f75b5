"""Which http addresses may be fetched: the address is read strictly, and what its host resolves to must be public.

A host's name says nothing about where it leads. So the name is resolved here, each answer is checked, and the caller
connects to what was checked, never to the name.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import queue
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote, urlsplit

from ..errors import InvalidMedia, MediaRefused
from .policy import MediaPolicy

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_LENGTH = 8192
_MAX_ADDRESSES = 32
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_HAS_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

# IANA's special-purpose registries, and what clouds answer to their own machines only. Listed here, since Python's
# `is_global` differs between its versions.
_NOT_PUBLIC: tuple[_Network, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's host
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "2001::/23",  # Teredo, ORCHID and other protocols
            "2001:db8::/32",
            "2002::/16",  # 6to4: an IPv4 address inside
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
# All that is public in IPv6 lies here; mapped IPv4 (::ffff:0:0/96), NAT64 (64:ff9b::/96, 64:ff9b:1::/48), loopback,
# unique local, link-local, site-local and multicast addresses don't.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")


@dataclass(frozen=True)
class Target:
    """An address that may be fetched, as far as its text tells."""

    scheme: str
    host: str
    port: int
    path: str
    """With the query: what stands in the request."""

    @property
    def netloc(self) -> str:
        """The host as the Host header names it, with the port where it isn't the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def scheme_of(source: str) -> str | None:
    """Give the scheme of an address with `://` in lower case; None for anything else."""
    found = _HAS_SCHEME.match(source)
    return found[1].lower() if found else None


def read_address(address: str, kind: str, policy: MediaPolicy) -> Target:
    """Read an http or https address.

    Args:
        address: by whoever asks, or by a server that redirects.
        kind: of the medium, for messages.
        policy: says which hosts and ports may be connected to.

    Raises:
        MediaRefused: remote media, the scheme, the host or the port are not allowed, or it holds a password.
        InvalidMedia: it is no address.
    """
    if not policy.allow_remote:
        raise MediaRefused(
            f"{kind}: remote media are not allowed; send the bytes, or set allow_remote in the MediaPolicy"
        )
    if len(address) > _MAX_LENGTH:
        raise MediaRefused(f"{kind}: the address is longer than {_MAX_LENGTH} characters; send the bytes")
    # Programs disagree on what these mean inside of an address, and some drop them.
    if any(ord(each) <= 32 or ord(each) == 127 or each == "\\" for each in address):
        raise InvalidMedia(f"{kind}: the address holds white space, a control character or a backslash; encode it")
    try:
        parts = urlsplit(address)
        host, given_port = parts.hostname, parts.port
    except ValueError:
        raise InvalidMedia(f"{kind}: the address cannot be read; expected http(s)://host/path") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise MediaRefused(f"{kind}: the scheme of the address is not allowed; use http, https, or send the bytes")
    if "@" in parts.netloc:
        raise MediaRefused(f"{kind}: the address holds a user name or password; leave it out, or send the bytes")
    if not host:
        raise InvalidMedia(f"{kind}: the address has no host; expected http(s)://host/path")
    host = _read_host(host, bracketed="[" in parts.netloc, kind=kind)
    port = _DEFAULT_PORTS[parts.scheme] if given_port is None else given_port
    if port != _DEFAULT_PORTS[parts.scheme] and port not in policy.allowed_ports:
        raise MediaRefused(
            f"{kind}: the port of the address is not allowed; use the scheme's own, or add it to allowed_ports "
            "in the MediaPolicy"
        )
    if policy.allowed_hosts is not None and not any(_is_host(host, each) for each in policy.allowed_hosts):
        raise MediaRefused(
            f"{kind}: the host is not among the allowed ones; send the bytes, or add it to allowed_hosts in the "
            "MediaPolicy"
        )
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~[]|")
    return Target(parts.scheme, host, port, f"{path}?{query}" if query else path)


def resolve(target: Target, kind: str, policy: MediaPolicy, timeout_s: float) -> Sequence[str]:
    """Resolve a host once, and check every address of the answer.

    Returns:
        Where to connect to, in the resolver's order.

    Raises:
        MediaRefused: one of them is not public and in no allowed network, or there was no answer in time.
        InvalidMedia: there is none.
    """
    if _is_literal(target.host):
        found: Sequence[str] = [target.host]
    else:
        found = _ask(target, kind, policy, timeout_s)
    if not found:
        raise InvalidMedia(f"{kind}: the host cannot be found; check the address")
    if len(found) > _MAX_ADDRESSES or not all(is_allowed(each, policy.allowed_networks) for each in found):
        raise MediaRefused(
            f"{kind}: the host is not a public one; send the bytes, or add its network to allowed_networks in the "
            "MediaPolicy"
        )
    return found


def is_allowed(address: str, allowed_networks: Sequence[str] = ()) -> bool:
    """Say whether an IP address is public, or in a network that is allowed by name."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None:
        return False
    if any(parsed in network for network in _networks(tuple(allowed_networks))):
        return True
    if isinstance(parsed, ipaddress.IPv6Address) and parsed not in _GLOBAL_IPV6:
        return False
    return not any(parsed in network for network in _NOT_PUBLIC)


@functools.lru_cache(maxsize=64)
def _networks(texts: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


def _read_host(host: str, *, bracketed: bool, kind: str) -> str:
    if bracketed:
        if "%" in host or not _is_literal(host):
            raise InvalidMedia(f"{kind}: the address of the host cannot be read; expected a plain IPv6 address")
        return str(ipaddress.ip_address(host))
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise InvalidMedia(f"{kind}: the name of the host cannot be read; check the address") from None
    host = host.lower().removesuffix(".")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise InvalidMedia(f"{kind}: the name of the host cannot be read; check the address")
    # 0x7f.1, 0177.0.0.1, 2130706433: some programs read them as IPv4 addresses.
    if _NUMBER.fullmatch(host.rpartition(".")[2]) and not _is_literal(host):
        raise MediaRefused(f"{kind}: the host is an oddly written number; use its name")
    return host


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_host(host: str, allowed: str) -> bool:
    allowed = allowed.lower()
    return host.endswith(allowed) if allowed.startswith(".") else host == allowed


def _ask(target: Target, kind: str, policy: MediaPolicy, timeout_s: float) -> Sequence[str]:
    """Resolve in a thread, since the system's own resolver knows no time limit."""
    answers: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()

    def run() -> None:
        found: Sequence[str] = ()
        try:
            with contextlib.suppress(OSError, UnicodeError):
                found = tuple(policy.resolver(target.host, target.port))
        finally:
            answers.put(found)

    threading.Thread(target=run, daemon=True, name="resolve-media-host").start()
    try:
        return answers.get(timeout=max(timeout_s, 0.001))
    except queue.Empty:
        raise MediaRefused(
            f"{kind}: took longer than timeout_s={policy.timeout_s}; try again, or send the bytes"
        ) from None
