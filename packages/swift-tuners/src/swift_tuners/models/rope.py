"""RoPE scaling: rotary positions stretched, so that a model takes longer texts than it was trained on.

What the user says becomes `rope_parameters` in the model's config, from which transformers builds the rotary embedding;
so a model that is saved afterwards carries its scaling.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any

from transformers import PreTrainedConfig

from ..args import ModelArgs
from ..errors import UnsupportedConfig
from ..registry import nearest

logger = logging.getLogger(__name__)

# Fields of each kind besides rope_type, and those which a user may leave out, with their values.
_ORIGINAL = "original_max_position_embeddings"
_FIELDS: dict[str, frozenset[str]] = {
    "linear": frozenset({"factor"}),
    "dynamic": frozenset({"factor"}),
    "yarn": frozenset(
        {"factor", _ORIGINAL, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"}
    ),
    "llama3": frozenset({"factor", _ORIGINAL, "low_freq_factor", "high_freq_factor"}),
    "longrope": frozenset({"factor", _ORIGINAL, "attention_factor", "short_factor", "long_factor"}),
}
# Those of Llama 3.1.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_NUMBERS = ("factor", "attention_factor", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor")
# The rotary embedding itself, whatever its scaling; all else in a config's rope_parameters belongs to a scaling.
_UNSCALED = ("rope_theta", "partial_rotary_factor", "mrope_section", "mrope_interleaved")


def scale_rope(args: ModelArgs, config: PreTrainedConfig) -> None:
    """Write the scaling that the user asked for into a model's config.

    Its factor is max_model_len / the length that the model was trained on, unless it is given. 'linear', 'yarn' and
    'llama3' set max_position_embeddings to the new length. 'dynamic' leaves it: transformers takes it for the trained
    length, beyond which the positions begin to stretch.

    Raises:
        UnsupportedConfig: the options contradict each other, or the model has no rotary embedding.
    """
    if args.rope_scaling is None:
        if args.max_model_len is not None:
            raise UnsupportedConfig(
                f"max_model_len={args.max_model_len} has no effect alone; say how positions are stretched: "
                "rope_scaling='yarn', for example"
            )
        return
    asked = _read(args.rope_scaling)
    text = config.get_text_config()
    own = _find_parameters(text, args.rope_scaling)
    trained = asked.get(_ORIGINAL, own.get(_ORIGINAL) or text.max_position_embeddings)
    if isinstance(trained, bool) or not isinstance(trained, int) or trained < 1:
        raise UnsupportedConfig(f"{_ORIGINAL} of rope_scaling is {trained!r:.80}; expected a number of tokens")
    scaled = _fill(asked, trained=trained, wanted=args.max_model_len)
    _check_lists(scaled, text, own)
    if own.get("rope_type", "default") not in ("default", scaled["rope_type"]):
        logger.warning("the model's own RoPE scaling, %s, is replaced by %s", own["rope_type"], scaled["rope_type"])
    kept = {key: own[key] for key in _UNSCALED if key in own}
    own.clear()
    own.update(kept | scaled)
    length = trained if scaled["rope_type"] == "dynamic" else args.max_model_len or int(trained * scaled["factor"])
    text.max_position_embeddings = length
    # Phi-3 keeps the trained length beside its rope_parameters, where it would win.
    if hasattr(text, _ORIGINAL):
        setattr(text, _ORIGINAL, trained)


def _read(given: str) -> dict[str, Any]:
    """Return rope_parameters with a known rope_type and no unknown fields."""
    if given in _FIELDS and given != "longrope":
        return {"rope_type": given}
    try:
        asked = json.loads(given)
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise UnsupportedConfig(
            f"rope_scaling={given!r} is neither linear, dynamic, yarn or llama3 nor a JSON object such as "
            '{"rope_type": "yarn", "factor": 4.0}; ' + nearest(given, _FIELDS)
        )
    # Older configs say `type`.
    kind = asked.pop("rope_type", asked.pop("type", None))
    asked.pop("type", None)
    if kind not in _FIELDS:
        raise UnsupportedConfig(f"rope_type {kind!r} in rope_scaling is unknown; expected one of {', '.join(_FIELDS)}")
    unknown = sorted(set(asked) - _FIELDS[kind] - set(_UNSCALED))
    if unknown:
        raise UnsupportedConfig(
            f"rope_scaling of type {kind!r} has no {unknown[0]!r}; {nearest(unknown[0], sorted(_FIELDS[kind]))}"
        )
    return {"rope_type": kind, **asked}


def _find_parameters(text: PreTrainedConfig, given: str) -> dict[str, Any]:
    """Return the config's own rope_parameters, to be changed; of layers of several kinds, those that see all tokens."""
    parameters = getattr(text, "rope_parameters", None)
    length = getattr(text, "max_position_embeddings", None)
    if not isinstance(parameters, dict) or not parameters or not isinstance(length, int):
        raise UnsupportedConfig(
            f"rope_scaling={given!r} needs a model with rotary embeddings; {text.model_type!r} has none in its config"
        )
    kinds = text.nested_rope_parameter_keys(parameters)
    if not kinds:
        return parameters
    # Layers with a sliding window never see further than they were trained to.
    far = parameters.get("full_attention")
    if not isinstance(far, dict):
        raise UnsupportedConfig(
            f"rope_scaling={given!r} cannot be given to a {text.model_type!r}, whose layers have rotary embeddings of "
            f"their own: {', '.join(kinds)}"
        )
    return far


def _fill(asked: dict[str, Any], *, trained: int, wanted: int | None) -> dict[str, Any]:
    kind = asked["rope_type"]
    if wanted is not None and wanted < trained:
        raise UnsupportedConfig(
            f"max_model_len={wanted} is less than the {trained} tokens that the model takes without rope_scaling; "
            "leave both out"
        )
    filled = dict(asked)
    if "factor" not in filled:
        if wanted is None:
            raise UnsupportedConfig(
                f"rope_scaling of type {kind!r} needs max_model_len, or a factor in its JSON object: "
                f'{{"rope_type": "{kind}", "factor": 2.0}}'
            )
        filled["factor"] = wanted / trained
    if kind == "llama3":
        filled = _LLAMA3 | filled
    if _ORIGINAL in _FIELDS[kind]:
        filled.setdefault(_ORIGINAL, trained)
    missing = [name for name in ("short_factor", "long_factor") if kind == "longrope" and name not in filled]
    if missing:
        raise UnsupportedConfig(f"rope_scaling of type 'longrope' needs {missing[0]!r}, a list of numbers")
    for name in _NUMBERS:
        value = filled.get(name)
        if value is not None and not _is_positive(value):
            raise UnsupportedConfig(f"{name} of rope_scaling is {value!r:.80}; expected a number above 0, and finite")
    if filled["factor"] < 1:
        raise UnsupportedConfig(f"factor of rope_scaling is {filled['factor']!r}; expected 1 or more")
    if wanted is not None and "factor" in asked and trained * asked["factor"] < wanted:
        raise UnsupportedConfig(
            f"a factor of {asked['factor']} stretches {trained} tokens to {trained * asked['factor']:.0f}, and "
            f"max_model_len={wanted} is more; leave one of them out"
        )
    return filled


def _check_lists(scaled: dict[str, Any], text: PreTrainedConfig, own: dict[str, Any]) -> None:
    """Raise UnsupportedConfig if a list of factors has not one for each rotary frequency."""
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    share = scaled.get("partial_rotary_factor", own.get("partial_rotary_factor")) or 1.0
    count = int(width * share) // 2
    for name in ("short_factor", "long_factor"):
        factors = scaled.get(name)
        if factors is None:
            continue
        if not isinstance(factors, list) or len(factors) != count or not all(map(_is_positive, factors)):
            given = f"{len(factors)} values" if isinstance(factors, list) else repr(factors)[:80]
            raise UnsupportedConfig(
                f"{name} of rope_scaling is {given}; {text.model_type!r} has {count} rotary frequencies: expected as "
                "many finite numbers above 0"
            )


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
