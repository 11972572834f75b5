"""Media from paths, bytes and data: addresses, the rules for them, and what is not a medium at all."""

from __future__ import annotations

import base64
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from swift_templates.errors import InvalidMedia, InvalidMediaPolicy, MediaRefused, SwiftTemplatesError
from swift_templates.media import loading
from swift_templates.media.loading import load_media, load_picture, load_sound, load_video, read_source
from swift_templates.media.policy import MediaPolicy, check_limit
from swift_templates.media.sniff import sniff
from swift_templates.media.streams import MediaSampling
from swift_templates.messages import Media, MediaKind

CONTENT = b"any bytes \xff\x00\xfb\xef\xbe"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "a.png").write_bytes(CONTENT)
    (tmp_path / "root-not").mkdir()
    (tmp_path / "root-not" / "secret.png").write_bytes(b"secret")
    (tmp_path / "secret.png").write_bytes(b"secret")
    return root


def get(source: object, policy: MediaPolicy) -> bytes:
    return read_source(source, "image", policy)


def test_local_files_are_refused_by_default(root: Path) -> None:
    for source in (str(root / "inner/a.png"), root / "inner/a.png", "a.png", "/etc/passwd", ""):
        with pytest.raises(MediaRefused, match="local files are not allowed"):
            get(source, MediaPolicy())


def test_files_below_a_root_are_read(root: Path) -> None:
    policy = MediaPolicy.trusted([root])
    (root / "to_inner").symlink_to(root / "inner")
    (root / "to_a.png").symlink_to("inner/a.png")
    inside = ["inner/a.png", "inner/../inner/a.png", "to_inner/a.png", "to_a.png", root / "inner/a.png"]
    for source in [*inside, str(root / "to_a.png"), str(root / ".." / "root" / "inner" / "a.png")]:
        assert get(source, policy) == CONTENT


def test_a_root_may_be_a_link_and_the_second_root_counts(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert get("inner/a.png", MediaPolicy(roots=(tmp_path / "link",))) == CONTENT
    assert get(root / "inner/a.png", MediaPolicy(roots=(tmp_path / "root-not", root))) == CONTENT


@pytest.mark.parametrize(
    "source", ["../secret.png", "inner/../../secret.png", "/etc/hostname", "../root-not/secret.png", "..", "/"]
)
def test_paths_out_of_the_roots_are_refused(root: Path, source: str) -> None:
    with pytest.raises(MediaRefused, match="not inside of an allowed folder") as caught:
        get(source, MediaPolicy(roots=(root,)))
    assert "secret" not in str(caught.value) and str(root) not in str(caught.value)


def test_a_folder_whose_name_begins_like_the_root_is_outside(root: Path) -> None:
    with pytest.raises(MediaRefused, match="not inside"):
        get(f"{root}-not/secret.png", MediaPolicy(roots=(root,)))


def test_links_out_of_the_roots_are_refused(root: Path, tmp_path: Path) -> None:
    (root / "file.png").symlink_to(tmp_path / "secret.png")
    (root / "folder").symlink_to(tmp_path)
    (root / "relative").symlink_to("../root-not")
    for source in ("file.png", "folder/secret.png", "relative/secret.png", str(root / "file.png")):
        with pytest.raises(MediaRefused, match="not inside"):
            get(source, MediaPolicy(roots=(root,)))


def test_a_link_that_is_made_after_the_check_leads_nowhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_below = loading._open_below

    def swap_and_open(*args: object) -> int:
        (root / "inner").rename(root / "was")
        (root / "inner").symlink_to(tmp_path / "root-not")
        return open_below(*args)  # type: ignore[arg-type]  # passed on as they came

    (root / "inner" / "secret.png").write_bytes(b"harmless")
    monkeypatch.setattr(loading, "_open_below", swap_and_open)
    with pytest.raises(InvalidMedia, match="cannot be opened"):
        get("inner/secret.png", MediaPolicy(roots=(root,)))


def test_what_is_no_regular_file_is_refused(root: Path) -> None:
    os.mkfifo(root / "pipe")
    for source in ("inner", "pipe", "."):
        with pytest.raises(MediaRefused, match="not a regular file"):
            get(source, MediaPolicy(roots=(root,)))
    with pytest.raises(MediaRefused, match="not a regular file"):
        get("/dev/zero", MediaPolicy(roots=("/",)))


@pytest.mark.parametrize("source", ["inner/none.png", "a\0b", "inner/a.png/b", "x" * 5000, "inner/" + "y" * 300])
def test_files_that_are_not_there_are_invalid_and_not_named(root: Path, source: str) -> None:
    with pytest.raises(InvalidMedia) as caught:
        get(source, MediaPolicy(roots=(root,)))
    error = caught.value
    assert source not in str(error) and str(root) not in str(error)
    assert error.__cause__ is None and error.__suppress_context__


@pytest.mark.parametrize(
    "source", ["//server/share/a.png", "\\\\server\\share\\a.png", "file:///etc/passwd", "s3://a/b"]
)
def test_other_machines_and_schemes_are_refused(root: Path, source: str) -> None:
    with pytest.raises(MediaRefused, match="not allowed"):
        get(source, MediaPolicy(roots=("/",)))


def test_files_are_bounded_in_bytes(root: Path) -> None:
    assert get("inner/a.png", MediaPolicy(roots=(root,), max_bytes=len(CONTENT))) == CONTENT
    for source in ("inner/a.png", CONTENT, memoryview(CONTENT), data_address(CONTENT)):
        with pytest.raises(MediaRefused, match=f"max_bytes={len(CONTENT) - 1}"):
            get(source, MediaPolicy(roots=(root,), max_bytes=len(CONTENT) - 1))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux has them")
def test_files_that_say_they_are_empty_are_bounded_too() -> None:
    # Those of the kernel have the size 0.
    with pytest.raises((MediaRefused, InvalidMedia)):
        get("/proc/self/status", MediaPolicy(roots=("/proc",)))


def data_address(content: bytes, head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "address",
    [
        data_address(CONTENT),
        data_address(CONTENT, "DATA:Image/PNG;BASE64,"),
        data_address(CONTENT, "data:;base64,"),
        data_address(CONTENT, 'data:text/plain;charset=utf-8;name="a b";base64,'),
        data_address(CONTENT, "data:image/png;base64 ,"),
        data_address(CONTENT).rstrip("="),
        data_address(CONTENT).replace("+", "-").replace("/", "_").replace("image_png", "image/png"),
        data_address(CONTENT).replace("+", "%2B").replace("=", "%3d"),
        data_address(CONTENT)[:30] + " \r\n\t" + data_address(CONTENT)[30:] + "\n",
    ],
    ids=["plain", "capitals", "no type", "options", "space", "no padding", "url alphabet", "percent", "lines"],
)
def test_data_addresses_are_read_as_they_occur(address: str) -> None:
    assert get(address, MediaPolicy(max_bytes=len(CONTENT))) == CONTENT


@pytest.mark.parametrize(
    "address",
    [
        "data:",
        "data:image/png",
        "data:image/png;base64",
        "data:image/png,plain",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,A",
        "data:image/png;base64,AA=A",
        "data:image/png;base64,ü",
        "data:image/png;base64,\ud800",
        "data:image/png;base64,%zz",
        "data:" + "x" * 2000 + ";base64,AAAA",
    ],
)
def test_data_addresses_without_base64_are_invalid(address: str) -> None:
    with pytest.raises(InvalidMedia, match="base64"):
        get(address, MediaPolicy())


def test_bytes_come_as_they_are() -> None:
    for source in (CONTENT, bytearray(CONTENT), memoryview(CONTENT)):
        assert get(source, MediaPolicy()) == CONTENT


@pytest.mark.parametrize("source", [None, 1, 1.5, {"path": "/etc/passwd"}, object(), ["a"]])
def test_other_things_are_invalid(source: object) -> None:
    with pytest.raises(InvalidMedia, match="expected a path"):
        load_picture(source, MediaPolicy())


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"<?xml version='1.0'?><svg/>",
        b"<!DOCTYPE html><html></html>",
        b"MZ\x90\x00\x03" + b"\0" * 200,
        b"\x7fELF" + b"\0" * 200,
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"PK\x03\x04" + b"\0" * 100,
        b"\x1f\x8b\x08" + b"\0" * 100,
        b"RIFF\x10\0\0\0ACON" + b"\0" * 100,
        b"\0" * 400,
        b"x",
    ],
)
@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_what_is_no_medium_reaches_no_decoder(content: bytes, kind: MediaKind) -> None:
    with pytest.raises(MediaRefused, match=f"{kind}: the format is not one that is read; expected"):
        load_media(Media(kind=kind, source=content), MediaPolicy())


def test_a_kind_is_not_taken_for_another() -> None:
    wav = b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 40
    with pytest.raises(MediaRefused):
        sniff(wav, "image")
    with pytest.raises(MediaRefused):
        sniff(b"\x89PNG\r\n\x1a\n", "video")
    with pytest.raises(MediaRefused, match="JPEG, PNG"):
        sniff(b"\0\0\0\x18ftypheic" + b"\0" * 16, "image")


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_nothing_is_invalid(kind: MediaKind) -> None:
    with pytest.raises(InvalidMedia, match="empty"):
        load_media(Media(kind=kind, source=b""), MediaPolicy())


def test_decoded_pictures_are_checked() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert load_picture(picture, MediaPolicy()) is picture
    shapes: list[np.ndarray] = [
        picture.astype(np.float32),
        picture[..., :1],
        picture[0],
        picture.transpose(2, 0, 1),
        picture[:0],
    ]
    for wrong in shapes:
        with pytest.raises(InvalidMedia, match=r"expected uint8 \(H, W, 3\)"):
            load_picture(wrong, MediaPolicy())
    with pytest.raises(MediaRefused, match="max_pixels=7"):
        load_picture(picture, MediaPolicy(max_pixels=7))


def test_decoded_videos_are_checked_and_pictures_stacked() -> None:
    frames = np.arange(72, dtype=np.uint8).reshape(3, 2, 4, 3)
    video = load_video(frames, MediaPolicy(), MediaSampling(fps=4.0))
    assert video.frames is frames and video.seconds.tolist() == [0.0, 0.25, 0.5]
    assert (load_video(list(frames), MediaPolicy()).frames == frames).all()
    assert (load_media(Media(kind="video", source=tuple(frames)), MediaPolicy()) == frames).all()
    for wrong in (frames[0], frames.astype(np.int32), frames[:0], [], [frames[0], frames[1][:1]], ["no\0file"]):
        with pytest.raises((InvalidMedia, MediaRefused)):
            load_video(wrong, MediaPolicy())
    for policy in (MediaPolicy(max_frames=2), MediaPolicy(max_pixels=7), MediaPolicy(max_video_pixels=23)):
        for source in (frames, list(frames)):
            with pytest.raises(MediaRefused, match=r"max_(frames=2|pixels=7|video_pixels=23)"):
                load_video(source, policy)


def test_decoded_sounds_are_checked() -> None:
    sound = np.linspace(-1, 1, 100)
    loaded = load_sound(sound, MediaPolicy())
    assert loaded.dtype == np.float32 and np.array_equal(loaded, sound.astype(np.float32))
    for wrong in (sound[None], sound.astype(np.int16), sound[:0], np.array([np.nan]), np.array([np.inf])):
        with pytest.raises(InvalidMedia, match="expected finite floats"):
            load_sound(wrong, MediaPolicy())
    with pytest.raises(MediaRefused, match="max_samples=99"):
        load_sound(sound, MediaPolicy(max_samples=99))
    with pytest.raises(MediaRefused, match="max_seconds"):
        load_sound(sound, MediaPolicy(max_seconds=9.9), MediaSampling(sample_rate=10))


@pytest.mark.parametrize(
    "build",
    [
        lambda: MediaPolicy(max_bytes=-1),
        lambda: MediaPolicy(timeout_s=float("nan")),
        lambda: MediaPolicy(max_pixels="many"),  # type: ignore[arg-type]  # what is tested
        lambda: MediaPolicy(roots=("/no/such/folder",)),
        lambda: MediaPolicy.trusted([__file__]),
        lambda: MediaPolicy(allowed_networks=("10.0.0.1/8",)),
        lambda: MediaPolicy(allowed_networks=("example.org",)),
        lambda: MediaSampling(fps=0.0),
        lambda: MediaSampling(fps=float("inf")),
        lambda: MediaSampling(num_frames=4),
        lambda: MediaSampling(sample_rate=-1),
    ],
)
def test_rules_that_make_no_sense_are_told(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidMediaPolicy):
        build()


def test_what_is_no_number_is_beyond_every_limit() -> None:
    check_limit(MediaPolicy(), "max_seconds", 600.0, "audio: its length in seconds")
    for value in (600.1, float("inf"), float("nan")):
        with pytest.raises(MediaRefused, match=r"audio: its length in seconds is more than max_seconds=600\.0; give"):
            check_limit(MediaPolicy(), "max_seconds", value, "audio: its length in seconds")


def test_policies_and_errors_survive_pickling(tmp_path: Path) -> None:
    policy = MediaPolicy.trusted([tmp_path], allow_remote=True)
    assert pickle.loads(pickle.dumps(policy)) == policy
    for error in (MediaRefused("a"), InvalidMedia("b"), InvalidMediaPolicy("c")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error)
        assert isinstance(again, SwiftTemplatesError) and isinstance(again, ValueError)


def test_loading_imports_no_decoder_before_it_is_needed() -> None:
    code = (
        "import sys, swift_templates.media.loading; "
        "print([each for each in ('PIL', 'av', 'soundfile', 'soxr', 'torch') if each in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "kind", "content"),
    [
        ("PIL", "image", b"\x89PNG\r\n\x1a\n"),
        ("av", "video", b"GIF89a"),
        ("soundfile", "audio", b"fLaC"),
    ],
)
def test_a_missing_package_names_the_extra(module: str, kind: MediaKind, content: bytes) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None
from swift_templates.media.loading import load_media
from swift_templates.media.policy import MediaPolicy
from swift_templates.messages import Media
from swift_templates.errors import MissingDependency
try:
    load_media(Media(kind={kind!r}, source={content!r}), MediaPolicy())
except MissingDependency as error:
    print(error)
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    package = "pillow" if module == "PIL" else module
    assert shown == f"{package} is needed to load this {kind}; pip install 'swift-templates[media]'\n"
