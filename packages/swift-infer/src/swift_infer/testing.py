"""What every engine must hold, whatever computes behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from swift_templates.generation import Prompt, SamplingParams

from .engine import Engine


def check_engine(engine: Engine, prompts: Sequence[Prompt]) -> None:
    """Hold an engine to the laws of the contract.

    Args:
        engine: with its model loaded.
        prompts: of different lengths, at least two.

    Raises:
        AssertionError: a law is broken; the message names it.
    """
    greedy = SamplingParams(max_new_tokens=8)
    together = engine.generate(prompts, greedy)
    assert [len(each) for each in together] == [1] * len(prompts), "one completion for each prompt"
    alone = [engine.generate([prompt], greedy)[0] for prompt in prompts]
    assert together == alone, "an answer does not depend on what else is in the batch"
    assert together == engine.generate(prompts, greedy), "greedy answers are the same each time"
    streamed = [list(engine.stream(prompt, greedy)) for prompt in prompts]
    assert streamed == [each[0].token_ids for each in together], "a stream yields the same tokens"
    for (completion,) in together:
        assert len(completion.token_ids) <= 8, "no answer is longer than asked"
        assert completion.finish_reason == "length" or len(completion.token_ids) < 8, "a stopped answer is shorter"
    _check_sampling(engine, prompts)


def _check_sampling(engine: Engine, prompts: Sequence[Prompt]) -> None:
    drawn = SamplingParams(max_new_tokens=8, temperature=1.5, seed=7, num_return_sequences=3)
    first, second = (engine.generate(prompts[:1], drawn) for _ in range(2))
    assert len(first[0]) == 3, "as many answers as asked for"
    assert first == second, "a seed gives the same answers"
    other = engine.generate(prompts[:1], replace(drawn, seed=8))
    assert other != first, "another seed gives other answers"
