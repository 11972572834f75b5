from ._version import __version__ as __version__
from .args import PromptArgs as PromptArgs
from .args import TemplateArgs as TemplateArgs
from .encoded import Encoded as Encoded
from .family import Family as Family
from .generation import Completion as Completion
from .generation import Generator as Generator
from .generation import Prompt as Prompt
from .generation import SamplingParams as SamplingParams
from .generation import WeightReceiver as WeightReceiver
from .load import load_template as load_template
from .media.policy import MediaPolicy as MediaPolicy
from .messages import JSON as JSON
from .messages import Conversation as Conversation
from .messages import Media as Media
from .messages import Message as Message
from .messages import Role as Role
from .messages import ToolCall as ToolCall
from .messages import check_conversation as check_conversation
from .registry import Registry as Registry
from .show import describe_sample as describe_sample
from .template import Template as Template
from .terminal import escape_control as escape_control

__all__ = [
    "JSON",
    "Completion",
    "Conversation",
    "Encoded",
    "Family",
    "Generator",
    "Media",
    "MediaPolicy",
    "Message",
    "Prompt",
    "PromptArgs",
    "Registry",
    "Role",
    "SamplingParams",
    "Template",
    "TemplateArgs",
    "ToolCall",
    "WeightReceiver",
    "__version__",
    "check_conversation",
    "describe_sample",
    "escape_control",
    "load_template",
]
