"""Addresses of media: which may be connected to, and which are refused before anything is asked."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from media_server import NAME, Names, Server, body, get, png
from swift_templates.errors import InvalidMedia, MediaRefused
from swift_templates.media.address import is_allowed, read_address
from swift_templates.media.policy import MediaPolicy

Image = pytest.importorskip("PIL.Image")

Answer = Callable[[socket.socket, str], None]


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
