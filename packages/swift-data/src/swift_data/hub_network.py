"""Whether a hub answers at all, asked once and quickly: hub libraries retry for 20 seconds and more."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Final

from .errors import DatasetNotFound

TIMEOUT_S: Final = 5.0


def check_reachable(endpoint: str, *, name: str) -> None:
    """Raise DatasetNotFound if the hub at this address does not answer within a few seconds.

    Args:
        endpoint: the hub's address.
        name: the dataset that is looked for, as messages show it.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise DatasetNotFound(f"the hub's address is {endpoint!r}; expected one that begins with https://")
    request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310  # checked above
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()  # noqa: S310  # checked above
    except urllib.error.HTTPError:
        # An answer, if not a friendly one: proxies and hubs may dislike HEAD.
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise DatasetNotFound(
            f"dataset {name} is no file, no folder, no known name and not whole in the local cache, and {endpoint} "
            f"cannot be reached ({reason}); check the spelling or the network, or give a local folder"
        ) from error


def describe_error(error: Exception) -> str:
    """Return the first line of what a library says."""
    return str(error).strip().partition("\n")[0]
