"""Models from ModelScope: the local cache first, the network for what is not there.

The one module that imports modelscope.
"""

from __future__ import annotations

import os
from pathlib import Path

from modelscope import snapshot_download
from modelscope.hub.errors import HTTPError, HubError

from ..errors import ModelNotFound
from .folder import DOWNLOADED_FILES, PICKLED_FILES, find_missing
from .network import check_reachable

_ENDPOINT = "https://modelscope.cn"


def fetch(model: str, revision: str | None, *, allow_pickle: bool = False) -> tuple[Path, str | None]:
    """Return the folder of a ModelScope id, and the revision if one was asked for.

    What the cache holds whole is used as it is, without asking whether there is something newer. MODELSCOPE_CACHE and
    MODELSCOPE_ENDPOINT mean what they mean to modelscope.

    Args:
        model: its id.
        revision: branch, tag or commit.
        allow_pickle: whether the weights may be pickles, where there are no others.

    Raises:
        ModelNotFound: there is no such model or revision, it needs permission, or the hub cannot be reached.
    """
    folder = _find_cached(model, revision, allow_pickle=allow_pickle)
    if folder is None:
        folder = _download(model, revision, DOWNLOADED_FILES)
        if allow_pickle and find_missing(folder):
            folder = _download(model, revision, (*DOWNLOADED_FILES, *PICKLED_FILES))
    return folder, revision


def _find_cached(model: str, revision: str | None, *, allow_pickle: bool) -> Path | None:
    try:
        folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
    except HubError:
        return None
    return folder if find_missing(folder, allow_pickle=allow_pickle) is None else None


def _download(model: str, revision: str | None, files: tuple[str, ...]) -> Path:
    check_reachable(os.environ.get("MODELSCOPE_ENDPOINT") or _ENDPOINT, model=model)
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(files)))
    except (HubError, HTTPError) as error:
        wanted = f"{model!r}" + (f" at revision {revision!r}" if revision else "")
        reason = str(error).strip().partition("\n")[0]
        raise ModelNotFound(
            f"model {wanted} cannot be fetched from ModelScope: {reason}; check id and revision, "
            "MODELSCOPE_API_TOKEN if the model needs permission, or take it from Hugging Face with --use_hf true"
        ) from error
