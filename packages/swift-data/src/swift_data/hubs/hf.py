"""Datasets from Hugging Face: the local cache first, the network for what is not there.

The one module that imports huggingface_hub. Only files are fetched; nothing that comes with a dataset is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from huggingface_hub import constants, metadata_load, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from ..errors import DatasetNotFound, UnsupportedDataset
from ..hub_network import check_reachable, describe_error

NAME = "Hugging Face"


def find_cached(name: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
    """Return the folder of a dataset in the cache; None where it is not there, or known not to be whole.

    HF_HUB_OFFLINE, HF_HOME, HF_TOKEN and HF_ENDPOINT mean what they mean to huggingface_hub.

    Args:
        name: its id.
        revision: branch, tag or commit.
        patterns: the files that are needed.

    Raises:
        DatasetNotFound: this is no id.
    """
    try:
        found = snapshot_download(
            name, repo_type="dataset", revision=revision, local_files_only=True, allow_patterns=list(patterns)
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise DatasetNotFound(f"dataset {name!r} is no id of Hugging Face: {error}") from error
    return Path(found)


def download(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Fetch the files that match and return their folder.

    Raises:
        DatasetNotFound: there is no such dataset or revision, it needs permission, or the hub cannot be reached.
    """
    wanted = repr(name) + (f" at revision {revision!r}" if revision else "")
    if constants.HF_HUB_OFFLINE:
        raise DatasetNotFound(
            f"dataset {wanted} is not whole in Hugging Face's cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE "
            "forbids to fetch it; fetch it where there is a network, or give a local folder"
        )
    check_reachable(constants.ENDPOINT, name=wanted)
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise DatasetNotFound(
            f"dataset {wanted} cannot be fetched from Hugging Face: {describe_error(error)}; check id and revision, "
            "HF_TOKEN if the dataset needs permission, or take it from ModelScope as 'ms::...'"
        ) from error


def read_head(readme: Path) -> Mapping[str, object]:
    """Return what stands in the head of a README.md.

    Raises:
        UnsupportedDataset: it cannot be read.
    """
    try:
        return cast("Mapping[str, object]", metadata_load(readme) or {})
    except Exception as error:
        # Of the YAML reader behind it, which is not imported here.
        if not isinstance(error, ValueError) and not type(error).__module__.startswith("yaml"):
            raise
        raise UnsupportedDataset(f"the head of {str(readme)!r} cannot be read: {error}") from error
