from ._version import __version__ as __version__
from .args import ModelArgs as ModelArgs
from .args import TunerArgs as TunerArgs
from .checkpoint import SwiftConfig as SwiftConfig
from .checkpoint import TunerEntry as TunerEntry
from .errors import SwiftTunersError as SwiftTunersError
from .model import SwiftModel as SwiftModel
from .models.load import LoadedModel as LoadedModel
from .models.load import load_model as load_model
from .models.resolve import ResolvedModel as ResolvedModel
from .models.resolve import resolve_model as resolve_model
from .peft_tuner import LoraConfig as LoraConfig
from .swift import Swift as Swift
from .tuner import Phase as Phase
from .tuner import Tuner as Tuner
from .tuner import TunerConfig as TunerConfig
from .tuners import TUNERS as TUNERS

__all__ = [
    "TUNERS",
    "LoadedModel",
    "LoraConfig",
    "ModelArgs",
    "Phase",
    "ResolvedModel",
    "Swift",
    "SwiftConfig",
    "SwiftModel",
    "SwiftTunersError",
    "Tuner",
    "TunerArgs",
    "TunerConfig",
    "TunerEntry",
    "load_model",
    "resolve_model",
]
