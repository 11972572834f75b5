"""What a file is, by its first bytes, and whether all of it is there; its name and its header are never believed.

Only formats in this table reach a decoder, and each decoder is told which one it is, so that a playlist, a script or a
drawing with links in it is never opened.
"""

from __future__ import annotations

from ..errors import InvalidMedia, MediaRefused
from ..messages import MediaKind

# Containers whose first bytes say it: (where, bytes, name).
_STARTS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"BM", "bmp"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"OggS", "ogg"),
    (0, b"fLaC", "flac"),
    (0, b"ID3", "mp3"),
    (0, b"FLV\x01", "flv"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
)
_RIFF = {b"WEBP": "webp", b"AVI ": "avi", b"WAVE": "wav"}
_ISO_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")

_READABLE: dict[MediaKind, tuple[str, ...]] = {
    "image": ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"),
    "video": ("mov", "matroska", "avi", "gif", "mpegts", "mpeg", "flv", "asf", "ogg"),
    "audio": ("wav", "flac", "mp3", "ogg", "aiff", "aac", "mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf"),
}
_COMMON: dict[MediaKind, str] = {
    "image": "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF",
    "video": "MP4, MOV, WebM, MKV, AVI, GIF, MPEG, FLV, WMV or Ogg",
    "audio": "WAV, FLAC, MP3, Ogg, AIFF, AAC, M4A, or a video with sound",
}


def sniff(data: bytes, kind: MediaKind) -> str:
    """Tell the format of a file by its bytes.

    Returns:
        The short name of a format that may be decoded as `kind`: 'png', 'mov' (also MP4), 'matroska' (also WebM)...

    Raises:
        MediaRefused: it is none of them.
        InvalidMedia: there is nothing in it, or less than it says.
    """
    if not data:
        raise InvalidMedia(f"{kind}: the file is empty; give a whole one")
    name = _name(data)
    if name not in _READABLE[kind]:
        raise MediaRefused(f"{kind}: the format is not one that is read; expected {_COMMON[kind]}")
    if name in ("wav", "avi", "webp"):
        whole = _riff_size(data)
    elif name == "mov":
        whole = _iso_size(data)
    else:
        whole = _matroska_size(data) if name == "matroska" else 0
    if whole > len(data):
        raise InvalidMedia(f"{kind}: the file ends {whole - len(data)} bytes too early; give a whole one")
    return name


def _name(data: bytes) -> str | None:
    for place, start, name in _STARTS:
        if data.startswith(start, place):
            return name
    if data[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(data[8:12])
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"avif", b"avis"):
            return "avif"
        return "heif" if brand in _HEIF_BRANDS else "mov"
    if data[4:8] in _ISO_BOXES:
        return "mov"
    if data[:1] == b"G" and data[188:189] == b"G":
        return "mpegts"
    # MPEG audio begins with eleven set bits; layer 0 does not exist there, and is AAC's.
    if len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        if data[1] & 0xF6 == 0xF0:
            return "aac"
        return "mp3" if data[1] & 0x06 and data[1] & 0x18 != 0x08 else None
    return None


def _riff_size(data: bytes) -> int:
    size = int.from_bytes(data[4:8], "little")
    # Written while streaming, the size is unknown; RF64 has it elsewhere.
    return 0 if data[:4] == b"RF64" or size in (0, 0xFFFFFFFF) else 8 + size


def _iso_size(data: bytes) -> int:
    """Walk the boxes at the top; the last one may run to the end of the file."""
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if size == 1:
            size = int.from_bytes(data[place + 8 : place + 16], "big")
        if size < 8:
            return 0
        place += size
    return place


def _matroska_size(data: bytes) -> int:
    """The header, then one segment whose size may be unknown.

    Source: RFC 8794, sections 4 and 5 (EBML numbers).
    """
    header, place = _ebml_number(data, 4)
    if header is None:
        return 0
    place += header
    if data[place : place + 4] != b"\x18S\x80g":
        return 0
    segment, place = _ebml_number(data, place + 4)
    return 0 if segment is None else place + segment


def _ebml_number(data: bytes, place: int) -> tuple[int | None, int]:
    """Give the number (None: unknown) and where it ends."""
    if place >= len(data) or not data[place]:
        return None, place
    length = 9 - data[place].bit_length()
    number = int.from_bytes(data[place : place + length], "big") & ((1 << 7 * length) - 1)
    unknown = number == (1 << 7 * length) - 1 or place + length > len(data)
    return (None if unknown else number), place + length
