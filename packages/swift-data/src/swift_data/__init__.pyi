from ._version import __version__ as __version__
from .args import DataArgs as DataArgs
from .chat_row import ChatRow as ChatRow
from .chat_row import to_row as to_row
from .column_format import COLUMN_FORMATS as COLUMN_FORMATS
from .column_format import ColumnFormat as ColumnFormat
from .column_format import Layout as Layout
from .dataset_card import DATASETS as DATASETS
from .dataset_card import DatasetCard as DatasetCard
from .dataset_card import load_card as load_card
from .encoded_rows import EncodedRows as EncodedRows
from .encoding import encode_chat_rows as encode_chat_rows
from .encoding import encode_dataset as encode_dataset
from .errors import BadRow as BadRow
from .errors import SwiftDataError as SwiftDataError
from .online_packing import OnlinePacker as OnlinePacker
from .packing import Batch as Batch
from .packing import collate as collate
from .packing import collate_padded as collate_padded
from .packing import pack as pack
from .reward import REWARDS as REWARDS
from .reward import Reward as Reward
from .reward import RewardExample as RewardExample
from .reward import load_reward as load_reward
from .reward_plugin import FunctionReward as FunctionReward
from .row_outcomes import FittedRow as FittedRow
from .row_outcomes import fit_samples as fit_samples
from .row_sequence import Rows as Rows
from .rows import LoadedRows as LoadedRows
from .rows import load_rows as load_rows
from .rows import order as order
from .rows import split_rows as split_rows
from .source import SOURCES as SOURCES
from .source import Origin as Origin
from .source import RawRow as RawRow
from .source import Source as Source
from .spec import DatasetSpec as DatasetSpec
from .spec import parse_spec as parse_spec
from .streaming import RowStream as RowStream
from .streaming import Share as Share
from .streaming import open_stream as open_stream

__all__ = [
    "COLUMN_FORMATS",
    "DATASETS",
    "REWARDS",
    "SOURCES",
    "BadRow",
    "Batch",
    "ChatRow",
    "ColumnFormat",
    "DataArgs",
    "DatasetCard",
    "DatasetSpec",
    "EncodedRows",
    "FittedRow",
    "FunctionReward",
    "Layout",
    "LoadedRows",
    "OnlinePacker",
    "Origin",
    "RawRow",
    "Reward",
    "RewardExample",
    "RowStream",
    "Rows",
    "Share",
    "Source",
    "SwiftDataError",
    "__version__",
    "collate",
    "collate_padded",
    "encode_chat_rows",
    "encode_dataset",
    "fit_samples",
    "load_card",
    "load_reward",
    "load_rows",
    "open_stream",
    "order",
    "pack",
    "parse_spec",
    "split_rows",
    "to_row",
]
