"""Datasets from ModelScope: the local cache first, the network for what is not there.

The one module that imports modelscope. Only files are fetched; nothing that comes with a dataset is run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from modelscope import snapshot_download
from modelscope.hub.errors import HTTPError, HubError

from ..errors import DatasetNotFound
from ..hub_network import check_reachable, describe_error

NAME = "ModelScope"
_ENDPOINT = "https://modelscope.cn"


def find_cached(name: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
    """Return the folder of a dataset in the cache, which may lack files; None where it is not there.

    MODELSCOPE_CACHE, MODELSCOPE_ENDPOINT and MODELSCOPE_API_TOKEN mean what they mean to modelscope.

    Args:
        name: its id.
        revision: branch, tag or commit.
        patterns: the files that are needed; modelscope does not look at them here.
    """
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True))
    except (HubError, ValueError):
        # Before version 1.38 it is a ValueError.
        return None


def download(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Fetch the files that match and return their folder.

    Raises:
        DatasetNotFound: there is no such dataset or revision, it needs permission, or the hub cannot be reached.
    """
    wanted = repr(name) + (f" at revision {revision!r}" if revision else "")
    check_reachable(os.environ.get("MODELSCOPE_ENDPOINT") or _ENDPOINT, name=wanted)
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=list(patterns)))
    except (HubError, HTTPError, ValueError) as error:
        raise DatasetNotFound(
            f"dataset {wanted} cannot be fetched from ModelScope: {describe_error(error)}; check id and revision, "
            "MODELSCOPE_API_TOKEN if the dataset needs permission, or take it from Hugging Face as 'hf::...'"
        ) from error
