"""Does an exported model answer as the trained one did? Measured on the same prompts, token by token.

P prompts, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from swift_templates import Conversation, Message, Template
from torch import Tensor, nn

from .exporter import ParityReport

# Each is rendered by the model's own template, so that what is compared is what will be asked.
QUESTIONS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three prime numbers.",
    "How do I boil an egg?",
    "Translate 'good morning' into Spanish.",
    "Who are you?",
    "Explain rain to a child.",
    "What comes after Tuesday?",
)


def parity_prompts(template: Template) -> list[list[int]]:
    """Return the token ids of the prompts that models are compared on."""
    conversations = [Conversation(messages=(Message(role="user", content=question),)) for question in QUESTIONS]
    return [list(template.encode_prompt(each).input_ids) for each in conversations]


def continue_greedily(model: nn.Module, prompts: Sequence[list[int]], *, num_tokens: int = 12) -> list[list[int]]:
    """Let a model add its own likeliest tokens, so that the comparison covers answers and not only questions."""
    rows = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(num_tokens):
            ids.append(int(_logps(model, ids)[-1].argmax()))
        rows.append(ids)
    return rows


def all_logps(model: nn.Module, rows: Sequence[list[int]]) -> list[Tensor]:
    """Return the float32 log-probabilities (T, V) of each row."""
    return [_logps(model, row) for row in rows]


def compare(trained: Sequence[Tensor], exported: Sequence[Tensor]) -> ParityReport:
    """Compare two models' log-probabilities on the same rows."""
    choices = torch.cat([(a.argmax(-1) == b.argmax(-1)) for a, b in zip(trained, exported, strict=True)])
    differences = [float((a - b).abs().max()) for a, b in zip(trained, exported, strict=True)]
    divergences = torch.cat([(a.exp() * (a - b)).sum(-1) for a, b in zip(trained, exported, strict=True)])
    return ParityReport(
        num_prompts=len(trained),
        num_tokens=len(choices),
        same_choice=float(choices.float().mean()),
        max_difference=max(differences),
        mean_divergence=float(divergences.mean()),
    )


def _logps(model: nn.Module, ids: list[int]) -> Tensor:
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits
    return torch.log_softmax(logits[0].float(), dim=-1).cpu()
