"""Remote media against a server of our own on the loopback network: where it may lead, how much, how long."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from media_server import NAME, Names, Server, body, forever, get, png, redirect
from swift_templates.errors import InvalidMedia, MediaRefused
from swift_templates.media.loading import load_media
from swift_templates.media.policy import MediaPolicy
from swift_templates.messages import Media

Image = pytest.importorskip("PIL.Image")

Answer = Callable[[socket.socket, str], None]


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
