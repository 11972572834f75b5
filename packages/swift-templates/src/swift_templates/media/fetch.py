"""Fetch a remote picture, video or sound: bounded in bytes, time and redirects, and only from where it may come.

Each connection goes to an address that was checked a moment before, so that a name which resolves otherwise the next
time gains nothing. The standard library's client is used, since it asks no proxy, keeps no cookies and unpacks nothing.
"""

from __future__ import annotations

import functools
import http.client
import io
import os
import socket
import ssl
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast
from urllib.parse import urljoin

from .._version import __version__
from ..errors import InvalidMedia, MediaRefused
from .address import Target, read_address, resolve
from .policy import MediaPolicy, check_limit

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_REDIRECTS = (301, 302, 303, 307, 308)
_BLOCK = 64 * 1024
_MAX_TRIES = 4
_LONGEST_WAIT_S = 3600.0  # sockets don't take infinity


def fetch(address: str, kind: str, policy: MediaPolicy) -> bytes:
    """Fetch what stands at an http or https address.

    Args:
        address: as it was given.
        kind: of the medium, for messages.
        policy: says what may be fetched, and how much.

    Raises:
        MediaRefused: the policy forbids the address, one that it redirects to, or the size, or it took too long.
        InvalidMedia: there is nothing, or it ended too early.
    """
    deadline = policy.deadline(policy.timeout_s)
    try:
        for _ in range(policy.max_redirects + 1):
            target = read_address(address, kind, policy)
            connection = _Connection(target, kind, policy, deadline)
            try:
                body, location = _request(connection, target, kind, policy)
            finally:
                connection.shut()
            if location is None:
                return body
            address = urljoin(address, location)
    except TimeoutError:
        raise MediaRefused(
            f"{kind}: took longer than timeout_s={policy.timeout_s}; try again, or send the bytes"
        ) from None
    except ssl.SSLError:
        raise InvalidMedia(f"{kind}: no safe connection to the host; its certificate must be valid") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, (MediaRefused, InvalidMedia)):
            raise
        # Without its cause, which knows the address.
        raise InvalidMedia(f"{kind}: cannot be fetched ({type(error).__name__}); check the address") from None
    raise MediaRefused(f"{kind}: more than max_redirects={policy.max_redirects} redirects; give the final address")


def _request(connection: _Connection, target: Target, kind: str, policy: MediaPolicy) -> tuple[bytes, str | None]:
    """Give the body, or where else to look."""
    connection.request(
        "GET",
        target.path,
        headers={
            "Host": target.netloc,
            "User-Agent": f"swift-templates/{__version__}",
            "Accept": "image/*, video/*, audio/*, */*;q=0.1",
            "Accept-Encoding": "identity",
            "Connection": "close",
        },
    )
    response = connection.getresponse()
    if response.status in _REDIRECTS and (location := response.getheader("Location")):
        return b"", location
    if response.status != 200:
        raise InvalidMedia(f"{kind}: the server answered with status {response.status}, not 200; check the address")
    # It was asked for as it is: unpacking is where a small body becomes a huge one.
    if (response.getheader("Content-Encoding") or "identity").strip().lower() != "identity":
        raise MediaRefused(f"{kind}: the server sends it packed (Content-Encoding); send the bytes")
    return _read(response, kind, policy), None


def _read(response: http.client.HTTPResponse, kind: str, policy: MediaPolicy) -> bytes:
    what = f"{kind}: the number of bytes"
    check_limit(policy, "max_bytes", response.length or 0, what)
    body = bytearray()
    while block := response.read(_BLOCK):
        body += block
        check_limit(policy, "max_bytes", len(body), what)
    if response.length:
        raise InvalidMedia(f"{kind}: ended {response.length} bytes too early; try again")
    return bytes(body)


class _Connection(http.client.HTTPConnection):
    """Connects to the checked address of its target, whatever the name would resolve to now."""

    def __init__(self, target: Target, kind: str, policy: MediaPolicy, deadline: float) -> None:
        super().__init__(target.host, target.port)
        self._target, self._kind, self._policy, self._deadline = target, kind, policy, deadline
        self._raw: socket.socket | None = None

    def shut(self) -> None:
        """Close the socket; `close` leaves that, since a response is read after it."""
        self.close()
        if self._raw is not None:
            self._raw.close()

    def connect(self) -> None:
        addresses = resolve(self._target, self._kind, self._policy, _left(self._deadline))[:_MAX_TRIES]
        self._raw = self._open(addresses)
        if self._target.scheme == "https":
            context = _tls(None if self._policy.ca_file is None else os.fspath(self._policy.ca_file))
            self._raw.settimeout(_left(self._deadline))
            # The certificate must be the name's, not the address's.
            self._raw = context.wrap_socket(self._raw, server_hostname=self._target.host)
        self.sock = cast("socket.socket", _BoundedSocket(self._raw, self._deadline))

    def _open(self, addresses: Sequence[str]) -> socket.socket:
        failure = OSError("no address")
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            raw = socket.socket(family, socket.SOCK_STREAM)
            try:
                raw.settimeout(_left(self._deadline))
                raw.connect((address, self._target.port))
            except OSError as error:
                raw.close()
                failure = error
            else:
                return raw
        raise failure


class _BoundedSocket:
    """A socket that gives up at a point in time, however slowly its bytes drip; what http.client needs of one."""

    def __init__(self, raw: socket.socket, deadline: float) -> None:
        self._raw, self._deadline = raw, deadline

    def sendall(self, data: bytes) -> None:
        self._raw.settimeout(_left(self._deadline))
        self._raw.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._raw, self._deadline), _BLOCK)

    def close(self) -> None:
        """Leave it open: http.client closes a connection before it reads the response."""


class _BoundedReader(io.RawIOBase):
    def __init__(self, raw: socket.socket, deadline: float) -> None:
        self._raw, self._deadline = raw, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._raw.settimeout(_left(self._deadline))
        return self._raw.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return min(left, _LONGEST_WAIT_S)


@functools.lru_cache(maxsize=4)
def _tls(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
