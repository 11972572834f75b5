from ._version import __version__ as __version__
from .cross_entropy import cross_entropy as cross_entropy
from .cross_entropy import token_logps as token_logps
from .cross_entropy import token_logps_reference as token_logps_reference

__all__ = ["cross_entropy", "token_logps", "token_logps_reference"]
