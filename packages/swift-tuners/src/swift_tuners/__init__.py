"""Lightweight tuning on any torch model: attach, mix, switch, merge and remove tuners; load the models they stand on.

Names are imported on first use, so that importing this package costs nothing.
"""

import lazy_loader

from ._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
