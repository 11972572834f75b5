from ._version import __version__ as __version__
from .args import EngineArgs as EngineArgs
from .args import InferArgs as InferArgs
from .chat import chat as chat
from .checkpoint import ServedModel as ServedModel
from .checkpoint import resolve_served as resolve_served
from .engine import Engine as Engine
from .engine import create_engine as create_engine
from .errors import SwiftInferError as SwiftInferError
from .responder import Responder as Responder
from .responder import StreamedAnswer as StreamedAnswer
from .run import run_infer as run_infer

__all__ = [
    "Engine",
    "EngineArgs",
    "InferArgs",
    "Responder",
    "ServedModel",
    "StreamedAnswer",
    "SwiftInferError",
    "chat",
    "create_engine",
    "resolve_served",
    "run_infer",
]
