"""Models from Hugging Face: the local cache first, the network for what is not there.

The one module that imports huggingface_hub.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from ..errors import ModelNotFound
from .folder import DOWNLOADED_FILES, PICKLED_FILES, find_missing
from .network import check_reachable


def fetch(model: str, revision: str | None, *, allow_pickle: bool = False) -> tuple[Path, str | None]:
    """Return the folder of a Hugging Face id and its exact revision.

    What the cache holds whole is used as it is, without asking whether there is something newer. HF_HUB_OFFLINE,
    HF_HOME, HF_TOKEN and HF_ENDPOINT mean what they mean to huggingface_hub.

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
    # The cache keeps a revision's files in a folder named by its commit.
    return folder, folder.name


def _find_cached(model: str, revision: str | None, *, allow_pickle: bool) -> Path | None:
    try:
        found = snapshot_download(
            model, revision=revision, local_files_only=True, allow_patterns=list(DOWNLOADED_FILES)
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ModelNotFound(f"model {model!r} is no id of Hugging Face: {error}") from error
    folder = Path(found)
    return folder if find_missing(folder, allow_pickle=allow_pickle) is None else None


def _download(model: str, revision: str | None, files: tuple[str, ...]) -> Path:
    wanted = f"{model!r}" + (f" at revision {revision!r}" if revision else "")
    if constants.HF_HUB_OFFLINE:
        raise ModelNotFound(
            f"model {wanted} is no folder, no .gguf file, no embedded model and not whole in Hugging Face's cache "
            f"({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE forbids to fetch it"
        )
    check_reachable(constants.ENDPOINT, model=model)
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(files)))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ModelNotFound(
            f"model {wanted} cannot be fetched from Hugging Face: {_first_line(error)}; "
            "check id and revision, and HF_TOKEN if the model needs permission"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
