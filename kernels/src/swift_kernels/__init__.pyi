from ._version import __version__ as __version__
from .attention import Documents as Documents
from .attention import add_sinks as add_sinks
from .attention import attention as attention
from .attention import attention_backward as attention_backward
from .attention import attention_reference as attention_reference
from .attention import attention_with_lse as attention_with_lse
from .attention import merge_attention as merge_attention
from .cross_entropy import cross_entropy as cross_entropy
from .cross_entropy import token_logps as token_logps
from .cross_entropy import token_logps_reference as token_logps_reference
from .linear_cross_entropy import linear_cross_entropy as linear_cross_entropy
from .linear_cross_entropy import linear_logps_and_entropy as linear_logps_and_entropy
from .linear_cross_entropy import linear_token_logps as linear_token_logps
from .linear_cross_entropy import linear_token_logps_reference as linear_token_logps_reference
from .lora import LoraLayer as LoraLayer
from .lora import lora_linear as lora_linear
from .lora import lora_linear_reference as lora_linear_reference
from .lora import lora_linears as lora_linears
from .matmul_dtype import matmul_dtype as matmul_dtype
from .rms_norm import add_rms_norm as add_rms_norm
from .rms_norm import rms_norm as rms_norm
from .rms_norm import rms_norm_reference as rms_norm_reference
from .rope import rope as rope
from .rope import rope_reference as rope_reference
from .swiglu import swiglu as swiglu
from .swiglu import swiglu_reference as swiglu_reference

__all__ = [
    "Documents",
    "LoraLayer",
    "add_rms_norm",
    "add_sinks",
    "attention",
    "attention_backward",
    "attention_reference",
    "attention_with_lse",
    "cross_entropy",
    "linear_cross_entropy",
    "linear_logps_and_entropy",
    "linear_token_logps",
    "linear_token_logps_reference",
    "lora_linear",
    "lora_linear_reference",
    "lora_linears",
    "matmul_dtype",
    "merge_attention",
    "rms_norm",
    "rms_norm_reference",
    "rope",
    "rope_reference",
    "swiglu",
    "swiglu_reference",
    "token_logps",
    "token_logps_reference",
]
