"""A server on loopback that answers whatever a test wants, for tests that fetch media."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from swift_templates.media.loading import read_source
from swift_templates.media.policy import MediaPolicy

Image = pytest.importorskip("PIL.Image")

Answer = Callable[[socket.socket, str], None]
NAME = "pictures.example.org"


class Server:
    """Answers each request by what is set for its path; counts connections."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def url(self, path: str, host: str = NAME, scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # Closing alone leaves a waiting accept() behind.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                self.requests.append(request.decode())
                self.answers[request.split()[1].decode()](connection, request.decode())
        except OSError:
            return  # the client left, as it should


def body(content: bytes, *headers: str, length: int | None = None, status: str = "200 OK") -> Answer:
    def answer(connection: socket.socket, request: str) -> None:
        size = len(content) if length is None else length
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers])
        connection.sendall(head.encode() + b"\r\n\r\n" + content)

    return answer


def redirect(to: str, status: int = 302) -> Answer:
    return body(b"", f"Location: {to}", status=f"{status} Found")


def forever(head: bytes, block: bytes, pause_s: float = 0.0) -> Answer:
    def answer(connection: socket.socket, request: str) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(block)
            time.sleep(pause_s)

    return answer


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (10, 20, 30)).save(file, "PNG")
    return file.getvalue()


class Names:
    """A resolver that gives its answers one after the other, the last again and again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = answers, [("", 0)][:0]

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


def get(address: str, policy: MediaPolicy) -> bytes:
    return read_source(address, "image", policy)
