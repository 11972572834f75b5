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
from .module_map import ModuleMap as ModuleMap
from .module_map import map_modules as map_modules
from .peft_tuner import LoraConfig as LoraConfig
from .quantized_layers import dequantize_model as dequantize_model
from .quantizer_args import QuantizationArgs as QuantizationArgs
from .swift import Swift as Swift
from .tuner import Phase as Phase
from .tuner import Tuner as Tuner
from .tuner import TunerConfig as TunerConfig
from .tuners import TUNERS as TUNERS
from .tuners.adapters import AdapterConfig as AdapterConfig
from .tuners.full import FullConfig as FullConfig
from .tuners.lisa import LISAConfig as LISAConfig
from .tuners.llamapro import LLaMAProConfig as LLaMAProConfig
from .tuners.longlora import LongLoRAConfig as LongLoRAConfig
from .tuners.neftune import NEFTuneConfig as NEFTuneConfig
from .tuners.reft import ReFTConfig as ReFTConfig
from .tuners.restuning import ResTuningConfig as ResTuningConfig
from .tuners.scedit import SCEditConfig as SCEditConfig

__all__ = [
    "TUNERS",
    "AdapterConfig",
    "FullConfig",
    "LISAConfig",
    "LLaMAProConfig",
    "LoadedModel",
    "LongLoRAConfig",
    "LoraConfig",
    "ModelArgs",
    "ModuleMap",
    "NEFTuneConfig",
    "Phase",
    "QuantizationArgs",
    "ReFTConfig",
    "ResTuningConfig",
    "ResolvedModel",
    "SCEditConfig",
    "Swift",
    "SwiftConfig",
    "SwiftModel",
    "SwiftTunersError",
    "Tuner",
    "TunerArgs",
    "TunerConfig",
    "TunerEntry",
    "dequantize_model",
    "load_model",
    "map_modules",
    "resolve_model",
]
