"""The laws that every tuner keeps, and small models to try them on.

A new tuner is tested by `check_tuner` with its config; the tests of this package call it, `check_pair` and
`check_distributed` for everything registered.
"""

from __future__ import annotations

from .laws import check_tuner as check_tuner
from .models import TOYS as TOYS
from .models import Toy as Toy
from .models import answer as answer
from .models import disturb as disturb
from .models import tiny_decoder as tiny_decoder
from .models import tiny_decoder_inputs as tiny_decoder_inputs
from .models import tiny_vlm as tiny_vlm
from .models import tiny_vlm_inputs as tiny_vlm_inputs
from .models import toy_conv as toy_conv
from .models import toy_conv_inputs as toy_conv_inputs
from .models import toy_mlp as toy_mlp
from .models import toy_mlp_inputs as toy_mlp_inputs
from .pairs import check_pair as check_pair
