"""Whether a hub answers at all, asked once and quickly: hub libraries retry for 20 seconds and more."""

from __future__ import annotations

import urllib.error
import urllib.request

from ..errors import ModelNotFound

TIMEOUT_S = 5.0


def check_reachable(endpoint: str, *, model: str) -> None:
    """Raise ModelNotFound if the hub at this address does not answer within a few seconds."""
    if not endpoint.startswith(("http://", "https://")):
        raise ModelNotFound(f"the hub's address is {endpoint!r}; expected one that begins with https://")
    request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310  # checked above
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()  # noqa: S310  # checked above
    except urllib.error.HTTPError:
        # An answer, if not a friendly one: proxies and hubs may dislike HEAD.
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ModelNotFound(
            f"model {model!r} is no folder, no .gguf file, no embedded model and not in the local cache, and "
            f"{endpoint} cannot be reached ({reason}); check the spelling or the network, or give a local folder"
        ) from error
