"""The torch engine: transformers' own generation, batched, on whatever device holds the model.

Prompts of one adapter are answered together, padded on the left. Adapters are switched between batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from threading import Event, Thread

import torch
from swift_templates.generation import Completion, FinishReason, Prompt, SamplingParams
from swift_templates.template import Template
from swift_tuners import load_model
from swift_tuners.checkpoint_folder import attach_adapters
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from ..checkpoint import ServedModel
from ..engine import Engine, check_sampling
from ..errors import PromptTooLong, UnknownAdapter
from ..stop_words import count_before_stop_word, stop_at_words


class TorchEngine(Engine):
    """Answers with transformers' generation."""

    def __init__(self, served: ServedModel, template: Template, *, max_batch_size: int) -> None:
        self.template = template
        self.max_batch_size = max_batch_size
        loaded = load_model(served.model, served.resolved, served.quantization)
        template.tokenizer.check_ids(loaded.new_tokens)
        host = loaded.model
        self.model, self._tuners = attach_adapters(host, served.adapters)
        self.model.eval()
        # What the model's folder says of generation would fill in whatever a request leaves open.
        host.generation_config = GenerationConfig()
        self._active: str | None = None

    @property
    def adapters(self) -> list[str]:
        """Names of the loaded adapters."""
        return list(self._tuners)

    def generate(self, prompts: Sequence[Prompt], sampling: SamplingParams) -> list[list[Completion]]:
        """Answer prompts in batches of one adapter; see `Engine.generate`."""
        check_sampling(sampling)
        answers: dict[int, list[Completion]] = {}
        # Prompts of similar length share a batch, so that little of it is padding; those that leave less room for an
        # answer than was asked for do not share one with others, whose answers they would cut short.
        groups: dict[tuple[str | None, int, int | None], list[int]] = {}
        for index in sorted(range(len(prompts)), key=lambda index: len(prompts[index].input_ids)):
            prompt = prompts[index]
            # How pictures of several rows go together differs from model to model.
            alone = index if prompt.media else None
            groups.setdefault((prompt.adapter, self._room(prompt, sampling), alone), []).append(index)
        for (adapter, _, _), indices in groups.items():
            self._activate(adapter)
            for start in range(0, len(indices), self.max_batch_size):
                chosen = indices[start : start + self.max_batch_size]
                answers.update(zip(chosen, self._answer([prompts[each] for each in chosen], sampling), strict=True))
        return [answers[index] for index in range(len(prompts))]

    def stream(self, prompt: Prompt, sampling: SamplingParams) -> Iterator[int]:
        """Yield token ids as they are chosen; generation stops when the iterator is closed."""
        check_sampling(sampling)
        self._room(prompt, sampling)
        self._activate(prompt.adapter)
        return stop_at_words(self.template, self._stream(prompt, sampling), sampling.stop_words)

    def _stream(self, prompt: Prompt, sampling: SamplingParams) -> Iterator[int]:
        queue: SimpleQueue[int | BaseException | None] = SimpleQueue()
        stop = Event()

        def run() -> None:
            try:
                self._run([prompt], sampling, streamer=_QueueStreamer(queue), stop=stop)
                queue.put(None)
            except BaseException as error:  # noqa: BLE001  # raised again in the thread that reads
                queue.put(error)

        thread = Thread(target=run, daemon=True)
        thread.start()
        try:
            while (item := queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                if item in self.template.stop_token_ids:
                    break
                yield item
        finally:
            stop.set()
            thread.join()

    def _answer(self, prompts: list[Prompt], sampling: SamplingParams) -> list[list[Completion]]:
        width = max(len(prompt.input_ids) for prompt in prompts)
        rows = self._run(prompts, sampling)[:, width:].tolist()
        count = sampling.num_return_sequences
        completions = [self._finish(row, sampling) for row in rows]
        return [completions[start : start + count] for start in range(0, len(completions), count)]

    def _run(
        self,
        prompts: list[Prompt],
        sampling: SamplingParams,
        *,
        streamer: BaseStreamer | None = None,
        stop: Event | None = None,
    ) -> torch.Tensor:
        room = self._room(prompts[0], sampling)
        width = max(len(prompt.input_ids) for prompt in prompts)
        pad = self.template.pad_token_id
        ids = torch.tensor([[pad] * (width - len(each.input_ids)) + each.input_ids for each in prompts])
        mask = torch.tensor([[0] * (width - len(each.input_ids)) + [1] * len(each.input_ids) for each in prompts])
        device = next(self.model.parameters()).device
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        criteria = StoppingCriteriaList([_StopWords(self.template, sampling.stop_words, width)])
        if stop is not None:
            criteria.append(_Stopped(stop))
        dtype = self.model.dtype
        media = {name: torch.from_numpy(array).to(device) for name, array in prompts[0].media.items()}
        media = {name: each.to(dtype) if each.is_floating_point() else each for name, each in media.items()}
        with torch.inference_mode():
            output: torch.Tensor = self.model.generate(
                **media,
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=self._generation_config(sampling, room),
                stopping_criteria=criteria,
                streamer=streamer,
            )
        return output

    def _generation_config(self, sampling: SamplingParams, room: int) -> GenerationConfig:
        samples = sampling.temperature > 0
        chosen = (
            {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p} if samples else {}
        )
        return GenerationConfig(
            max_new_tokens=room,
            do_sample=samples,
            repetition_penalty=sampling.repetition_penalty,
            num_return_sequences=sampling.num_return_sequences,
            eos_token_id=sorted(self.template.stop_token_ids),
            pad_token_id=self.template.pad_token_id,
            **chosen,
        )

    def _finish(self, row: list[int], sampling: SamplingParams) -> Completion:
        reason: FinishReason = "length"
        for index, token in enumerate(row):
            if token in self.template.stop_token_ids:
                row, reason = row[:index], "stop"
                break
        cut = count_before_stop_word(self.template, row, sampling.stop_words)
        if cut is not None:
            row, reason = row[:cut], "stop"
        return Completion(token_ids=row, finish_reason=reason)

    def _room(self, prompt: Prompt, sampling: SamplingParams) -> int:
        """Return how many tokens an answer may have."""
        limit, length = self.template.max_length, len(prompt.input_ids)
        if limit is None:
            return sampling.max_new_tokens
        if length >= limit:
            raise PromptTooLong(f"a prompt has {length} tokens; this model takes {limit} with the answer; shorten it")
        return min(sampling.max_new_tokens, limit - length)

    def _activate(self, adapter: str | None) -> None:
        if adapter is not None and adapter not in self._tuners:
            raise UnknownAdapter(f"adapter {adapter!r} is not loaded; loaded are: {', '.join(self._tuners) or 'none'}")
        if adapter != self._active:
            self.model.set_active_tuners([] if adapter is None else self._tuners[adapter])
            self._active = adapter


class _QueueStreamer(BaseStreamer):
    """Passes chosen tokens on to the thread that reads them."""

    def __init__(self, queue: SimpleQueue[int | BaseException | None]) -> None:
        self.queue = queue
        self._is_prompt = True

    def put(self, value: torch.Tensor) -> None:
        """Take new tokens; the first call brings the prompt."""
        if self._is_prompt:
            self._is_prompt = False
            return
        for token in value.flatten().tolist():
            self.queue.put(token)

    def end(self) -> None:
        """Nothing is held back."""


class _Stopped(StoppingCriteria):
    """Ends generation when nobody reads on."""

    def __init__(self, stop: Event) -> None:
        self.stop = stop

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.stop.is_set(), dtype=torch.bool, device=input_ids.device)


class _StopWords(StoppingCriteria):
    """Ends an answer whose text holds a stop word."""

    def __init__(self, template: Template, words: list[str], width: int) -> None:
        self.template = template
        self.words = words
        self.width = width

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        stops = [
            bool(self.words) and count_before_stop_word(self.template, row, self.words) is not None
            for row in input_ids[:, self.width :].tolist()
        ]
        return torch.tensor(stops, dtype=torch.bool, device=input_ids.device)
