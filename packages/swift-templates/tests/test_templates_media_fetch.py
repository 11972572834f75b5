"""Remote media against a server of our own on the loopback network: where it may lead, how much, how long."""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from swift_templates.errors import InvalidMedia, MediaRefused
from swift_templates.media.address import is_allowed, read_address
from swift_templates.media.loading import load_media, read_source
from swift_templates.media.policy import MediaPolicy
from swift_templates.messages import Media

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


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.answers["/ok.png"] = body(png())
    yield server
    server.close()


@pytest.fixture
def policy(server: Server) -> MediaPolicy:
    return MediaPolicy(
        allow_remote=True,
        allowed_ports=(server.port,),
        allowed_networks=("127.0.0.1/32",),
        resolver=Names(["127.0.0.1"]),
        max_bytes=100_000,
        timeout_s=5.0,
    )


def get(address: str, policy: MediaPolicy) -> bytes:
    return read_source(address, "image", policy)


def test_a_picture_is_fetched_from_an_allowed_network(server: Server, policy: MediaPolicy) -> None:
    loaded = load_media(Media(kind="image", source=server.url("/ok.png")), policy)
    assert loaded.dtype == np.uint8 and loaded.shape == (2, 3, 3)
    assert (loaded == [10, 20, 30]).all()
    head = server.requests[0]
    assert f"Host: {NAME}:{server.port}\r\n" in head and "Accept-Encoding: identity\r\n" in head


def test_loopback_is_refused_by_default(server: Server, policy: MediaPolicy) -> None:
    with pytest.raises(MediaRefused, match="not a public one"):
        get(server.url("/ok.png"), replace(policy, allowed_networks=()))
    assert not server.requests


def test_the_name_is_resolved_once_and_its_answer_connected_to(
    server: Server, policy: MediaPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> object:
        raise AssertionError("the name was resolved behind the policy's back")

    names = Names(["127.0.0.1"], ["169.254.169.254"])
    monkeypatch.setattr(socket, "getaddrinfo", never)
    assert get(server.url("/ok.png"), replace(policy, resolver=names)) == png()
    assert names.asked == [(NAME, server.port)]


def test_a_redirect_to_the_same_name_is_resolved_and_checked_again(server: Server, policy: MediaPolicy) -> None:
    server.answers["/again"] = redirect("/ok.png")
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    with pytest.raises(MediaRefused, match="not a public one"):
        get(server.url("/again"), replace(policy, resolver=names))
    assert len(names.asked) == 2 and len(server.requests) == 1


def test_one_private_address_among_public_ones_is_refused(server: Server, policy: MediaPolicy) -> None:
    with pytest.raises(MediaRefused, match="not a public one"):
        get(server.url("/ok.png"), replace(policy, resolver=Names(["127.0.0.1", "10.0.0.1"])))


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("http://10.0.0.1/", "not a public one"),
        ("http://169.254.169.254/latest/meta-data", "not a public one"),
        ("http://[::1]/", "not a public one"),
        ("//192.168.0.1/x", "not a public one"),
        ("http://0x7f.1/", "oddly written"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://example.org/", "scheme"),
        ("http://user:secret@example.org/", "password"),
        ("http://example.org:22/", "port"),
    ],
)
def test_redirects_are_checked_like_the_first_address(
    server: Server, policy: MediaPolicy, to: str, reason: str
) -> None:
    server.answers["/away"] = redirect(to)
    with pytest.raises(MediaRefused, match=reason):
        get(server.url("/away"), policy)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: Server, policy: MediaPolicy, status: int) -> None:
    server.answers["/away"] = redirect("ok.png#part", status)
    assert get(server.url("/away"), policy) == png()


def test_redirects_in_a_circle_end(server: Server, policy: MediaPolicy) -> None:
    server.answers["/a"], server.answers["/b"] = redirect("/b"), redirect("/a")
    with pytest.raises(MediaRefused, match="max_redirects=3"):
        get(server.url("/a"), policy)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "answer",
    [
        forever(b"", b"H", 0.05),
        forever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.05),
        forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
        forever(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", 0.05),
        forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05),
        forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", 0.05),
    ],
    ids=["status", "headers", "continue", "body", "chunks", "trailers"],
)
def test_bytes_that_drip_are_cut_off(server: Server, policy: MediaPolicy, answer: Answer) -> None:
    server.answers["/slow"] = answer
    start = time.monotonic()
    with pytest.raises(MediaRefused, match=r"timeout_s=0\.3"):
        get(server.url("/slow"), replace(policy, timeout_s=0.3))
    assert time.monotonic() - start < 2.0


def test_a_resolver_that_hangs_is_cut_off(server: Server, policy: MediaPolicy) -> None:
    over = threading.Event()

    def hang(host: str, port: int) -> Sequence[str]:
        over.wait(10)
        return ["127.0.0.1"]

    with pytest.raises(MediaRefused, match=r"timeout_s=0\.2"):
        get(server.url("/ok.png"), replace(policy, timeout_s=0.2, resolver=hang))
    over.set()


@pytest.mark.parametrize(
    "answer",
    [
        forever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000),
        forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2710\r\n" + b"x" * 10_000 + b"\r\n"),
        body(b"", length=10**9),
        body(b"", length=100_001),
    ],
    ids=["endless", "endless chunks", "said to be huge", "said to be one too long"],
)
def test_bodies_are_bounded(server: Server, policy: MediaPolicy, answer: Answer) -> None:
    server.answers["/big"] = answer
    with pytest.raises(MediaRefused, match="max_bytes=100000"):
        get(server.url("/big"), policy)


def test_a_body_of_just_max_bytes_is_whole(server: Server, policy: MediaPolicy) -> None:
    server.answers["/full"] = body(b"x" * 100_000)
    assert get(server.url("/full"), policy) == b"x" * 100_000


def test_a_chunked_body_is_joined(server: Server, policy: MediaPolicy) -> None:
    content = png()
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, content[i : i + 1]) for i in range(len(content))) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.answers["/chunks"] = lambda connection, _: connection.sendall(head + chunks)
    assert get(server.url("/chunks"), policy) == content


@pytest.mark.parametrize(
    "answer",
    [
        body(png(), length=len(png()) + 1),
        lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nshort"),
        lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
        lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000),
        lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000),
        body(b"no", status="404 Not Found"),
        body(png(), status="206 Partial Content"),
        body(b"", status="302 Found"),
        lambda connection, _: None,
    ],
    ids=["short", "short chunk", "no http", "bad chunk", "headers", "header", "404", "206", "no location", "nothing"],
)
def test_broken_answers_are_invalid(server: Server, policy: MediaPolicy, answer: Answer) -> None:
    server.answers["/broken"] = answer
    with pytest.raises(InvalidMedia) as caught:
        get(server.url("/broken"), policy)
    assert "127.0.0" not in str(caught.value) and NAME not in str(caught.value)


def test_packed_bodies_are_not_unpacked(server: Server, policy: MediaPolicy) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    server.answers["/bomb"] = body(bomb, "Content-Encoding: gzip")
    with pytest.raises(MediaRefused, match="Content-Encoding"):
        get(server.url("/bomb"), policy)


@pytest.mark.parametrize(
    "content",
    [b"<html><img src=x></html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"MZ\x90\0" + b"\0" * 99],
    ids=["html", "svg", "exe"],
)
def test_the_bytes_count_and_not_the_content_type(server: Server, policy: MediaPolicy, content: bytes) -> None:
    server.answers["/ok.jpg"] = body(content, "Content-Type: image/png")
    with pytest.raises(MediaRefused, match="the format is not one"):
        load_media(Media(kind="image", source=server.url("/ok.jpg")), policy)


def test_proxies_of_the_environment_are_ignored(
    server: Server, policy: MediaPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert get(server.url("/ok.png"), policy) == png()


def test_a_host_that_is_not_there_is_told_without_its_address(server: Server, policy: MediaPolicy) -> None:
    server.close()
    with pytest.raises(InvalidMedia) as caught:
        get(server.url("/ok.png?token=secret"), policy)
    shown = caught.value.__cause__, caught.value.__suppress_context__
    assert shown == (None, True)
    assert not any(each in str(caught.value) for each in ("127.0.0", NAME, "secret", str(server.port)))


def test_the_next_address_is_tried_where_one_is_down(server: Server, policy: MediaPolicy) -> None:
    allowed = replace(policy, allowed_networks=("127.0.0.0/8",), resolver=Names(["127.0.0.9", "127.0.0.1"]))
    assert get(server.url("/ok.png"), allowed) == png()


@pytest.mark.parametrize("answer", [[], ["not an address"], ["fe80::1%eth0"], ["127.0.0.1"] * 33])
def test_odd_answers_of_a_resolver_lead_nowhere(server: Server, policy: MediaPolicy, answer: list[str]) -> None:
    with pytest.raises((MediaRefused, InvalidMedia)):
        get(server.url("/ok.png"), replace(policy, resolver=Names(answer)))
    assert not server.requests


PRIVATE = """0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.0.1
169.254.169.254 168.63.129.16 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1
198.51.100.7 203.0.113.9 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1
::ffff:8.8.8.8 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1 100::1 2001::1
2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 5f00::1
fc00::1 fd00:ec2::254 fe80::1 fe80::1%1 fec0::1 ff02::1 127.1 0x7f.0.0.1 2130706433 0177.0.0.1 localhost"""

PUBLIC = """1.1.1.1 8.8.8.8 9.255.255.255 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.167.0.1 223.255.255.255
2606:4700::1111 2001:4860:4860::8888 2a00:1450::1"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize(
    "address",
    PUBLIC.split(),
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_allowed(address)


def test_an_allowed_network_allows_nothing_beside_it() -> None:
    networks = ("10.1.0.0/16", "fd00::/8")
    assert is_allowed("10.1.2.3", networks) and is_allowed("fd12::1", networks)
    assert not any(is_allowed(each, networks) for each in ("10.2.0.1", "::ffff:10.1.0.1", "127.0.0.1", "fe80::1"))


@pytest.mark.parametrize(
    "host",
    ["0x7f.1", "127.1", "2130706433", "0177.0.0.1", "0x7f000001", "127.0.0.0x1", "127.0.0.1.1", "1.2.3.256", "127.1."],
)
def test_oddly_written_numbers_are_refused_before_they_are_resolved(host: str) -> None:
    names = Names(["8.8.8.8"])
    with pytest.raises(MediaRefused, match="oddly written"):
        get(f"http://{host}/a.png", MediaPolicy(allow_remote=True, resolver=names))
    assert not names.asked


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "[::]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        # IDNA reads these as digits and dots.
        "①②⑦.0.0.1",
        "127。0。0。1",
        "１２７.0.0.1",  # noqa: RUF001  # wide digits are what is tested
    ],
)
def test_literal_addresses_that_are_not_public_are_refused(host: str) -> None:
    names = Names(["8.8.8.8"])
    with pytest.raises(MediaRefused, match=r"not a public one|oddly written"):
        get(f"http://{host}/a.png", MediaPolicy(allow_remote=True, resolver=names))
    assert not names.asked


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "http:///a",
        "http://exa mple.org/",
        "http://example.org/a b",
        "http://example.org\\@127.0.0.1/",
        "http://example.org/\r\nHost: x",
        "http://example.org/\0",
        "http://example..org/",
        "http://-example.org/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[v1.a]/",
        "http://example.org:99999/",
        "http://example.org:http/",
        "http://" + "a" * 300 + ".org/",
        "http://exa%6dple.org/",
        "http://" + "ü" * 70 + ".org/",
    ],
)
def test_addresses_that_cannot_be_read_are_invalid(address: str) -> None:
    with pytest.raises(InvalidMedia):
        get(address, MediaPolicy(allow_remote=True, resolver=Names(["8.8.8.8"])))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://user@example.org/", "password"),
        ("http://:@example.org/", "password"),
        ("http://a.org@example.org/", "password"),
        ("ftp://example.org/a.png", "scheme"),
        ("FILE:///etc/passwd", "scheme"),
        ("http://example.org:8080/", "port"),
        ("https://example.org:80/", "port"),
        ("http://example.org:443/", "port"),
        ("http://example.org/" + "a" * 9000, "longer than"),
    ],
)
def test_addresses_that_the_policy_refuses(address: str, reason: str) -> None:
    with pytest.raises(MediaRefused, match=reason):
        get(address, MediaPolicy(allow_remote=True, resolver=Names(["8.8.8.8"])))


def test_remote_media_are_refused_by_default() -> None:
    for policy in (MediaPolicy(), MediaPolicy.trusted([])):
        with pytest.raises(MediaRefused, match="allow_remote"):
            get("https://example.org/a.png", policy)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("example.org", True),
        ("EXAMPLE.org.", True),
        ("a.example.org", False),
        ("a.cdn.net", True),
        ("b.a.cdn.net", True),
        ("cdn.net", False),
        ("evilcdn.net", False),
        ("example.org.evil.net", False),
    ],
)
def test_allowed_hosts(host: str, allowed: bool) -> None:
    policy = MediaPolicy(allow_remote=True, allowed_hosts=("Example.org", ".cdn.net"))
    if allowed:
        assert read_address(f"https://{host}/a", "image", policy).host == host.lower().removesuffix(".")
    else:
        with pytest.raises(MediaRefused, match="allowed_hosts"):
            read_address(f"https://{host}/a", "image", policy)


def test_what_is_requested_is_ascii_and_keeps_what_was_encoded() -> None:
    policy = MediaPolicy(allow_remote=True)
    target = read_address("HTTPS://Bücher.example/ä%20b;c/?q=ü&x=%2F#part", "image", policy)
    # IDNA and UTF-8 by hand.
    assert (target.host, target.port) == ("xn--bcher-kva.example", 443)
    assert target.path == "/%C3%A4%20b;c/?q=%C3%BC&x=%2F" and target.netloc == "xn--bcher-kva.example"
    assert read_address("http://[2606:4700::1111]", "image", policy).netloc == "[2606:4700::1111]"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_tls_is_verified_by_name_on_a_checked_address(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    subprocess.run(
        [*command.split(), "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    wanted: list[str | None] = []
    context.sni_callback = lambda connection, name, _: wanted.append(name)
    server = Server(context)
    server.answers["/ok.png"] = body(png())
    policy = MediaPolicy(
        allow_remote=True,
        allowed_ports=(server.port,),
        allowed_networks=("127.0.0.1/32",),
        resolver=Names(["127.0.0.1"]),
        ca_file=certificate,
    )
    assert get(server.url("/ok.png", scheme="https"), policy) == png()
    assert wanted == [NAME]
    for address, rules in (
        (server.url("/ok.png", host="other.example.org", scheme="https"), policy),
        (server.url("/ok.png", host="127.0.0.1", scheme="https"), policy),
        (server.url("/ok.png", scheme="https"), replace(policy, ca_file=None)),
    ):
        with pytest.raises(InvalidMedia, match="certificate"):
            get(address, rules)
    assert len(server.requests) == 1
    server.close()
