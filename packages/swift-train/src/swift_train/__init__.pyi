from ._version import __version__ as __version__
from .algorithm import Algorithm as Algorithm
from .algorithm import WeightedTokens as WeightedTokens
from .args import SftArgs as SftArgs
from .args import TrainArgs as TrainArgs
from .checkpoints import check_checkpoint as check_checkpoint
from .checkpoints import find_checkpoints as find_checkpoints
from .errors import SwiftTrainError as SwiftTrainError
from .isolation import measure_leak as measure_leak
from .run import RunResult as RunResult
from .run import run_sft as run_sft
from .trainer import Trainer as Trainer

__all__ = [
    "Algorithm",
    "RunResult",
    "SftArgs",
    "SwiftTrainError",
    "TrainArgs",
    "Trainer",
    "WeightedTokens",
    "check_checkpoint",
    "find_checkpoints",
    "measure_leak",
    "run_sft",
]
