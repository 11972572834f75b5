"""Tiny real models compute on the arrays that templates make, and see each medium where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from swift_templates.encoded import Encoded
from swift_templates.messages import Conversation, Media, Message
from swift_templates.template import Template

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")
hf = pytest.importorskip("swift_templates.hf")
processors = pytest.importorskip("hf_tiny_processors")
models = pytest.importorskip("hf_tiny_models")


def medium(kind: str, seed: int) -> Media:
    random = np.random.default_rng(seed)
    if not processors.KINDS[kind].image:
        return Media(kind="audio", source=random.uniform(-1, 1, 9000).astype(np.float32))
    return Media(kind="image", source=random.integers(0, 256, (40, 60, 3), dtype=np.uint8))


def talk(kind: str, first: int, second: int) -> Conversation:
    return Conversation(
        messages=(
            Message(role="user", content="Red?", media=(medium(kind, 9), medium(kind, first))),
            Message(role="assistant", content="Yes."),
            Message(role="user", content="And?", media=(medium(kind, second),)),
            Message(role="assistant", content="No."),
        )
    )


def logits(model: Any, sample: Encoded) -> Any:  # noqa: ANN401  # transformers is untyped
    """Return (T, V)."""
    ids = torch.from_numpy(sample.input_ids)[None]
    # The tiny tokenizers say of each token that it belongs to the first text, which those of most models leave out.
    given = {name: torch.from_numpy(np.asarray(array)) for name, array in sample.media.items()}
    if not given.get("token_type_ids", torch.ones(1)).any():
        del given["token_type_ids"]
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **given).logits[0]


@pytest.mark.parametrize("kind", models.MODELS)
def test_an_answer_depends_on_the_media_before_it_and_not_on_those_behind(kind: str, tmp_path: Path) -> None:
    tiny = processors.KINDS[kind]
    processor = tiny.build(tiny.tokenizer(tmp_path))
    template = Template.from_folder(tmp_path, media=hf.HfMedia(processor, {"default": tiny.chat}))
    model = models.tiny_model(models.MODELS[kind], template.tokenizer.special_ids)
    [sample] = template.encode(talk(kind, 0, 1))
    before = logits(model, sample)
    assert before.shape[0] == len(sample) and bool(torch.isfinite(before).all())
    trained = np.flatnonzero(sample.labels >= 0)
    early, late = int(trained[0]), int(trained[-1])
    [changed] = template.encode(talk(kind, 0, 2))
    other = logits(model, changed)
    # Nothing but the arrays differs; sums of another order differ by some 1e-8.
    assert torch.allclose(other[early], before[early], atol=1e-6)
    assert not torch.allclose(other[late], before[late], atol=1e-6)
    [changed] = template.encode(talk(kind, 3, 1))
    assert not torch.allclose(logits(model, changed)[early], before[early], atol=1e-6)


def test_a_prompt_and_the_sample_that_goes_on_from_it_are_seen_alike(tmp_path: Path) -> None:
    tiny = processors.KINDS["qwen2_5_vl"]
    processor = tiny.build(tiny.tokenizer(tmp_path))
    template = Template.from_folder(tmp_path, media=hf.HfMedia(processor, {"default": tiny.chat}))
    model = models.tiny_model(models.MODELS["qwen2_5_vl"], template.tokenizer.special_ids)
    conversation = talk("qwen2_5_vl", 0, 1)
    [sample] = template.encode(conversation)
    prompt = template.encode_prompt(Conversation(messages=conversation.messages[:1]))
    ids = np.array(prompt.input_ids)
    alone = logits(model, Encoded(ids, ids, np.ones(len(ids), dtype=np.float32), prompt.media))
    # The places of tokens, which count pictures in three dimensions, are the same then.
    assert torch.allclose(alone, logits(model, sample)[: len(ids)], atol=1e-5)
