"""Text to token ids and back, with the `tokenizers` library alone.

Two things differ from a bare `tokenizers.Tokenizer`. Marked text (see `lookalikes`) is read so that a broken special
token stays ordinary text. And a text can be tokenized as the *continuation* of another, which matters to tokenizers
that put a space before whatever they are given.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, normalizers

from .errors import InvalidModelFolder, TemplateMismatch, TokenizerNotFound
from .lookalikes import Lookalikes
from .messages import JSON
from .model_folder import ModelFolder
from .reasoning import CLOSE, OPEN

_SPECIAL: Mapping[str, JSON] = {"special": True, "normalized": False}
# Llama's, Qwen's, Phi's and DeepSeek's control tokens look like this, marked special or not.
_BARS = re.compile(r"<\|.+\|>|<｜.+｜>", re.DOTALL)  # noqa: RUF001  # DeepSeek's have bars of their own
_ANCHORS = ("\n", "]", ":", ">", "a", ".")


class Tokenizer:
    """A tokenizer and the names of its special tokens.

    Args:
        backend: the `tokenizers` object; it is taken over, and its padding and truncation are switched off.
        named_tokens: texts of special tokens by name, such as eos_token.
        added_tokens: further tokens by text, with the properties that tokenizer_config.json writes.
        control_ids: added tokens that are control tokens even if they are not marked special, such as those that end
            answers.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        named_tokens: Mapping[str, str],
        added_tokens: Mapping[str, Mapping[str, JSON]] | None = None,
        control_ids: Iterable[int] = (),
    ) -> None:
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        self.named_tokens = dict(named_tokens)
        self._add_missing(added_tokens or {})
        names, ids = set(self.named_tokens.values()), set(control_ids)
        control = {
            token_id: token
            for token_id, token in backend.get_added_tokens_decoder().items()
            if token.special or token.content in names or token_id in ids or _BARS.fullmatch(token.content)
        }
        self.special_ids = {token.content: token_id for token_id, token in control.items()}
        """Ids of the control tokens, by text."""
        self._special_texts = {token_id: text for text, token_id in self.special_ids.items()}
        self._thinking_ids = {self.special_ids[text] for text in (OPEN, CLOSE) if text in self.special_ids}
        late = any(token.normalized for token in control.values())
        normalize = backend.normalizer.normalize_str if late and backend.normalizer is not None else None
        self.lookalikes = Lookalikes(self.special_ids, normalize=normalize)
        """Finds control tokens' spellings in text that must not contain any."""
        self.answer_lookalikes = Lookalikes(set(self.special_ids) - {OPEN, CLOSE}, normalize=normalize)
        """The same for an assistant's text, where <think> and </think> mean what they say."""
        self._normalize = normalize
        self._guarded = set(self.special_ids)
        self._prefixes = self._puts_a_prefix()
        self._marked: dict[str, tokenizers.Tokenizer] = {}
        self._cutting: dict[str, bool] = {}

    @classmethod
    def from_folder(cls, folder: ModelFolder, *, new_special_tokens: Sequence[str] = ()) -> Tokenizer:
        """Read tokenizer.json.

        Args:
            folder: the model's.
            new_special_tokens: control tokens to add, in the order of their ids; those that it has keep theirs.

        Raises:
            TokenizerNotFound: there is none.
            InvalidModelFolder: it cannot be read.
        """
        path = folder.path / "tokenizer.json"
        if not path.is_file():
            held = sorted(each.name for each in folder.path.iterdir()) if folder.path.is_dir() else []
            state = (
                f"it holds {', '.join(held[:12]) or 'nothing'}" if folder.path.is_dir() else "there is no such folder"
            )
            raise TokenizerNotFound(
                f"model folder {str(folder.path)!r} has no tokenizer.json ({state}); where transformers can convert "
                "the tokenizer it has, pip install 'swift-templates[hf]' and use swift_templates.hf"
            )
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust library raises bare Exception for whatever is wrong with the file
            raise InvalidModelFolder(f"{str(path)!r} is not a tokenizer: {error}") from error
        return cls(
            backend,
            named_tokens=folder.named_tokens,
            added_tokens={**folder.added_tokens, **dict.fromkeys(new_special_tokens, _SPECIAL)},
            control_ids=folder.eos_token_ids,
        )

    def save(self, path: Path) -> None:
        """Write a tokenizer.json with everything that was added."""
        self._backend.save(str(path))

    def encode(self, text: str, *, mark: str | None = None) -> list[int]:
        """Tokenize a whole rendered text; nothing is put before or after it.

        Args:
            text: the text.
            mark: the character that breaks look-alikes in it, if there are any.
        """
        backend = self._backend if mark is None else self._marked_backend(mark)
        # The fast one keeps no places of tokens in the text; it takes lists only.
        return backend.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize whole rendered texts without marks, in the time of fewer; how all of them begin is read once.

        What they share, such as a system prompt or tools, ends for this before the last control token in it.
        """
        alike = os.path.commonprefix(texts) if len(texts) > 1 else ""  # noqa: RUF071  (these are texts, not paths)
        shared = self._last_cut(alike)
        beginning = self.encode(texts[0][:shared]) if shared else []
        rest = self._backend.encode_batch_fast([text[shared:] for text in texts], add_special_tokens=False)
        return [beginning + each.ids for each in rest]

    def lookalikes_in(self, *sources: str) -> Lookalikes:
        """Return what finds those added tokens that texts spell, beside the control tokens.

        What a chat template writes itself, such as <tool_call>, only it may write; words are words, though.
        """
        added = self._backend.get_added_tokens_decoder().values()
        spelled = {
            token.content
            for token in added
            if token.content not in self.special_ids
            and not token.content.isalnum()
            and any(token.content in source for source in sources)
        }
        late = any(token.normalized for token in added if token.content in spelled)
        normalize = self._normalize
        if late and self._backend.normalizer is not None:
            normalize = self._backend.normalizer.normalize_str
        if not spelled <= self._guarded:
            self._guarded |= spelled
            self._marked.clear()
        return Lookalikes(spelled, normalize=normalize if late else None)

    @property
    def beginning_ids(self) -> list[int]:
        """Tokens that the tokenizer itself puts before a text, such as a bos token; none where templates write it."""
        bos = self.named_id("bos_token")
        return [each for each in self._backend.encode("", add_special_tokens=True).ids if each == bos]

    @property
    def joins_to_context(self) -> bool:
        """Whether the tokens of a text depend on there being something before it."""
        return self._prefixes

    def encode_after(self, context: str, text: str, *, mark: str | None = None) -> list[int]:
        """Tokenize a text as what follows another, without merging into it.

        Raises:
            ValueError: the tokenizer joins the text to whatever stands before it.
        """
        if not self._prefixes:
            return self.encode(text, mark=mark)
        return [token_id for token_id, _ in self.tokens_after(context, text, mark=mark)]

    def tokens_after(self, context: str, text: str, *, mark: str | None = None) -> list[tuple[int, int]]:
        """Return what `encode_after` does, with each token the place in the text, in characters, where it begins.

        Raises:
            ValueError: the tokenizer joins the text to whatever stands before it.
        """
        backend = self._backend if mark is None else self._marked_backend(mark)
        if not self._prefixes or not text:
            whole = backend.encode(text, add_special_tokens=False)
            return [(token_id, start) for token_id, (start, _) in zip(whole.ids, whole.offsets, strict=True)]
        for before in (context[self.last_control(context) :], *_ANCHORS):
            head = self.encode(before, mark=mark)
            joint = backend.encode(before + text, add_special_tokens=False)
            if joint.ids[: len(head)] == head and len(joint.ids) > len(head):
                places = [max(0, start - len(before)) for start, _ in joint.offsets]
                return list(zip(joint.ids, places, strict=True))[len(head) :]
        raise ValueError(f"the tokenizer joins {text[:40]!r} to whatever stands before it")

    def last_control(self, text: str) -> int:
        """Return where the last control token of a text begins; 0 if it has none."""
        return max(0, max((text.rfind(token) for token in self.special_ids), default=0))

    def first_control(self, text: str) -> str | None:
        """Return the spelling of the first control token in a text, or None."""
        found = [(text.find(token), -len(token), token) for token in self.special_ids if token in text]
        return min(found)[2] if found else None

    def decode(self, token_ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Return the text of token ids that begin a text."""
        return self._backend.decode([int(each) for each in token_ids], skip_special_tokens=skip_special)

    def decode_after(self, token_ids: Iterable[int]) -> str:
        """Return the text of token ids that stand in the middle of a text."""
        ids = [int(each) for each in token_ids]
        if not self._prefixes:
            return self.decode(ids)
        # Such decoders drop the space before the first token, so something else must be first.
        anchor = self.encode("a")
        return self.decode([*anchor, *ids]).removeprefix(self.decode(anchor))

    def without_control(self, token_ids: Sequence[int]) -> list[int]:
        """Return the token ids without control tokens; <think> and </think> stay, special or not."""
        return [each for each in token_ids if each not in self._special_texts or each in self._thinking_ids]

    def is_byte(self, token_id: int) -> bool:
        """Whether a token stands for one byte of a character that the vocabulary lacks, such as '<0xE2>'."""
        return re.fullmatch(r"<0x[0-9A-F]{2}>", self._backend.id_to_token(token_id) or "") is not None

    def token_id(self, text: str) -> int | None:
        """Return the id of a token that is found whole in any text, or None."""
        token_id = self._backend.token_to_id(text)
        return token_id if token_id is not None and self.encode(text) == [token_id] else None

    def named_id(self, name: str) -> int | None:
        """Return the id of a special token by name, such as 'eos_token', or None."""
        text = self.named_tokens.get(name)
        return None if text is None else self._backend.token_to_id(text)

    def check_ids(self, ids: Mapping[str, int]) -> None:
        """Check that tokens, by text, have the ids that a model has rows for.

        Raises:
            TemplateMismatch: one has another id, or none.
        """
        for text, token_id in ids.items():
            if self._backend.token_to_id(text) != token_id:
                raise TemplateMismatch(
                    f"token {text!r} is {self._backend.token_to_id(text)} to the tokenizer and {token_id} to the "
                    "model; tokenizer_config.json adds tokens that tokenizer.json lacks: save it again with "
                    "transformers, so that both agree"
                )

    def special_text(self, token_id: int) -> str | None:
        """Return the spelling of a control token, or None if the id is not one's."""
        return self._special_texts.get(token_id)

    def _last_cut(self, text: str) -> int:
        """Return where a text may be cut, so that both parts, each for itself, have the tokens of the whole."""
        cut = self.last_control(text)
        token = self.first_control(text[cut:])
        if not cut or token is None:
            return 0
        if token not in self._cutting:
            self._cutting[token] = self._is_found_everywhere(token)
        return cut if self._cutting[token] else 0

    def _is_found_everywhere(self, token: str) -> bool:
        """Whether a control token begins wherever it is spelled, and takes nothing from the text before it.

        Added tokens are looked for from left to right, the longest first, in the text as it was given. So none other
        may reach over the beginning of this one, swallow the white space there, or ask what stands beside it.
        """
        return not token[0].isspace() and not any(
            each.single_word
            or token in each.content[1:]
            or any(token.startswith(each.content[at:]) for at in range(1, len(each.content)))
            or (each.content.startswith(token) and (each.lstrip or each.normalized))
            for each in self._backend.get_added_tokens_decoder().values()
        )

    def _add_missing(self, added_tokens: Mapping[str, Mapping[str, JSON]]) -> None:
        """Add what the configuration names and tokenizer.json lacks, as transformers does."""
        present = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        missing = [_added_token(text, properties) for text, properties in added_tokens.items() if text not in present]
        present.update(added_tokens)
        for name, text in self.named_tokens.items():
            # An id for padding that the model has no row for is of no use.
            if text not in present and (name != "pad_token" or self._backend.token_to_id(text) is not None):
                missing.append(AddedToken(text, special=True, normalized=False))
                present.add(text)
        if missing:
            self._backend.add_tokens(missing)

    def _puts_a_prefix(self) -> bool:
        text = "a"
        if self._backend.normalizer is not None:
            text = self._backend.normalizer.normalize_str(text)
        if self._backend.pre_tokenizer is not None:
            text = "".join(piece for piece, _ in self._backend.pre_tokenizer.pre_tokenize_str(text))
        return text != "a"

    def _marked_backend(self, mark: str) -> tokenizers.Tokenizer:
        """Return a copy that drops the mark after looking for special tokens and before normalizing."""
        if mark not in self._marked:
            written = json.loads(self._backend.to_str())
            for token in written["added_tokens"]:
                # Those that are looked for after normalizing would find the broken ones whole again.
                token["normalized"] = token["normalized"] and token["content"] not in self._guarded
            backend = tokenizers.Tokenizer.from_str(json.dumps(written))
            drop = normalizers.Replace(mark, "")
            own = backend.normalizer
            backend.normalizer = drop if own is None else normalizers.Sequence([drop, own])
            self._marked[mark] = backend
        return self._marked[mark]


def _added_token(text: str, properties: Mapping[str, JSON]) -> AddedToken:
    names = ("lstrip", "rstrip", "normalized", "single_word", "special")
    return AddedToken(text, **{name: bool(properties[name]) for name in names if name in properties})
