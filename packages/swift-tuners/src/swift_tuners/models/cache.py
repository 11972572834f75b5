"""Where unpacked models are kept, and how a folder gets there whole, also when two processes want it at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def cache_folder() -> Path:
    """Return $SWIFT_CACHE, or ~/.cache/swift."""
    return Path(os.environ.get("SWIFT_CACHE") or Path.home() / ".cache" / "swift").expanduser()


def folder_for(name: str, build: Callable[[Path], None]) -> Path:
    """Return the cached folder of this name, built first if it is not there.

    The folder is built under another name and renamed, so it exists only when it is whole. Other processes wait for the
    one that builds.

    Args:
        name: names the contents: a change of what is built must change it.
        build: fills an empty folder.
    """
    target = cache_folder() / "models" / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{name}.lock")):
        if target.is_dir():
            return target
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
        try:
            build(unfinished)
            unfinished.rename(target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return target


def hash_file(path: Path, *, salt: str) -> str:
    """Return 16 hexadecimal digits that stand for a file's contents (and the salt); about 1 s for a GiB."""
    digest = hashlib.sha256(salt.encode())
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()[:16]
