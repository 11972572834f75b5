"""What every engine is, whatever computes behind it: the same arguments in, the same completions out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from swift_templates.generation import Completion, Prompt, SamplingParams
from swift_templates.registry import Registry

from .errors import InvalidInferArgs

if TYPE_CHECKING:
    from swift_templates.template import Template

    from .checkpoint import ServedModel


class Engine(ABC):
    """A model that answers; a `Generator` with adapters.

    A component file in `engines/` defines one subclass, whose constructor takes the served model and the template.
    """

    @abstractmethod
    def __init__(self, served: ServedModel, template: Template, *, max_batch_size: int) -> None:
        """Load the model.

        Args:
            served: which base model and which adapters.
            template: knows which tokens end an answer.
            max_batch_size: prompts answered at once.
        """

    @property
    @abstractmethod
    def adapters(self) -> list[str]:
        """Names that a prompt's `adapter` may take."""

    @abstractmethod
    def generate(self, prompts: Sequence[Prompt], sampling: SamplingParams) -> list[list[Completion]]:
        """Return `num_return_sequences` completions for each prompt, in the order of the prompts.

        Raises:
            UnknownAdapter: a prompt names an adapter that is not loaded.
            PromptTooLong: a prompt leaves no room for an answer.
        """

    @abstractmethod
    def stream(self, prompt: Prompt, sampling: SamplingParams) -> Iterator[int]:
        """Yield one completion's token ids as they are chosen, without the token that ends it. Raises as `generate`."""


ENGINES: Registry[Engine] = Registry(kind="engine", package="swift_infer.engines", base=Engine)


def create_engine(name: str, served: ServedModel, template: Template, *, max_batch_size: int = 8) -> Engine:
    """Return the engine of this name with the model loaded.

    Raises:
        UnknownName: there is no such engine; the message holds the nearest names.
        MissingDependency: its backend is not installed.
    """
    return ENGINES.load_class(name)(served, template, max_batch_size=max_batch_size)


def check_sampling(sampling: SamplingParams) -> None:
    """Refuse values that no engine can follow.

    Raises:
        InvalidInferArgs: the message names the field.
    """
    ranges = {
        "max_new_tokens": (sampling.max_new_tokens >= 1, "1 or more"),
        "temperature": (0 <= sampling.temperature < math.inf, "0 or more"),
        "top_k": (sampling.top_k >= 0, "0 or more"),
        "top_p": (0 < sampling.top_p <= 1, "above 0, at most 1"),
        "repetition_penalty": (sampling.repetition_penalty > 0, "above 0"),
        "seed": (sampling.seed is None or 0 <= sampling.seed < 2**63, "0 or more, below 2 to the power of 63"),
        "num_return_sequences": (sampling.num_return_sequences >= 1, "1 or more"),
    }
    for name, (is_right, expected) in ranges.items():
        if not is_right:
            raise InvalidInferArgs(f"{name} is {getattr(sampling, name)}; expected {expected}")
    if sampling.num_return_sequences > 1 and sampling.temperature == 0:
        raise InvalidInferArgs(
            f"num_return_sequences is {sampling.num_return_sequences} at temperature 0, where all answers are the "
            "same; give a --temperature above 0"
        )
