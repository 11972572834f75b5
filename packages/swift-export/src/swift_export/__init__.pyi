from ._version import __version__ as __version__
from .args import ExportArgs as ExportArgs
from .errors import SwiftExportError as SwiftExportError
from .exporter import Exporter as Exporter
from .exporter import ExportSource as ExportSource
from .exporter import ParityReport as ParityReport
from .parity import compare as compare
from .run import run_export as run_export

__all__ = [
    "ExportArgs",
    "ExportSource",
    "Exporter",
    "ParityReport",
    "SwiftExportError",
    "compare",
    "run_export",
]
