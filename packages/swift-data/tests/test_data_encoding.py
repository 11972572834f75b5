"""Encoding rows once: what is stored is what was encoded, whatever happens on the way, and nothing stale is found."""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from swift_data.chat_row import ChatRow
from swift_data.encoded_rows import shard_path
from swift_data.encoding import UnusableCache, count_rows_per_shard, encode_chat_rows, encode_dataset
from swift_data.errors import BadRow, InvalidArgument, UnreadableDataset
from swift_data.row_outcomes import FittedRow, Outcome, fit_samples
from swift_data.source import Origin
from swift_templates.args import TemplateArgs
from swift_templates.encoded import Encoded
from swift_templates.messages import Conversation, Message
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder


def make_sample(number: int) -> Encoded:
    """Return a sample of a kind that depends on the number: weights, ids, labels and media as they come."""
    rng = np.random.default_rng(number)
    length = int(rng.integers(1, 30))
    ids = rng.integers(0, 70_000 if number % 3 == 0 else 50_000, length)
    weights = rng.choice([0.0, 1.0] if number % 4 else [0.0, 0.3, 1.0, -2.0], length).astype(np.float32)
    labels = np.where(weights > 0, ids, -100)
    if number % 5 == 0:
        labels[0] = 7
    sample = Encoded(ids, labels, weights)
    if number % 7 == 0:
        pixels = rng.random((2, 3, int(rng.integers(0, 4)))).astype(np.float32)
        sample.media = {
            "pixel_values": pixels,
            "image_grid_thw": np.array([[1, 2, 2]]),
            "scale": np.array(number, np.float16),
        }
        sample.unbroken = ((0, 1), (1, length))
    return sample


def encode_numbers(numbers: Sequence[int]) -> list[Outcome]:
    """Return for each number an error, no sample, or some of them."""
    outcomes: list[Outcome] = []
    for number in numbers:
        if number % 50 == 49:
            outcomes.append(BadRow("no answer", f"row {number} has none"))
        elif number % 50 == 48:
            outcomes.append(KeyError(number))
        else:
            outcomes.append([make_sample(number + each) for each in range(number % 4)])
    return outcomes


def check_numbers(encoded: Sequence[Encoded], numbers: Sequence[int]) -> None:
    """Compare samples with those of `encode_numbers`, in bits and types."""
    expected = [
        each for number in numbers if number % 50 < 48 for each in map(make_sample, range(number, number + number % 4))
    ]
    assert len(encoded) == len(expected)
    for found, made in zip(encoded, expected, strict=True):
        for name in ("input_ids", "labels", "loss_scale"):
            left, right = getattr(found, name), getattr(made, name)
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        assert list(found.media) == list(made.media)
        for name, array in found.media.items():
            assert array.dtype == made.media[name].dtype and array.shape == made.media[name].shape
            np.testing.assert_array_equal(array, made.media[name])
        assert found.unbroken == made.unbroken


def test_what_is_stored_is_what_was_encoded(tmp_path: Path) -> None:
    done: list[int] = []
    encoded = encode_dataset(range(150), encode_numbers, key="k", cache_dir=tmp_path, on_progress=done.append)
    check_numbers(encoded, range(150))
    assert done == [32, 64, 96, 128, 150]
    expected_rows = [number for number in range(150) if number % 50 < 48 for _ in range(number % 4)]
    assert encoded.row_indices.tolist() == expected_rows
    assert encoded.lengths.tolist() == [len(each) for each in encoded]
    assert encoded.has_media.tolist() == [bool(each.media) for each in encoded]
    assert encoded.failed_rows.tolist() == [48, 49, 98, 99, 148, 149]
    assert encoded.failures[1] == (49, "no answer", "row 49 has none")
    counts = encoded.counts
    assert counts.errors == {"KeyError": 3, "no answer": 3}
    # Of 38, 37 and 37 numbers that 4 divides, 48 and 148 fail.
    assert (counts.num_rows, counts.num_untrained) == (150, 36)
    assert counts.num_trained == sum(each.num_trained for each in encoded)
    assert counts.longest == max(map(len, encoded)) and counts.largest_id == max(
        int(e.input_ids.max()) for e in encoded
    )
    assert encoded.num_tokens == sum(map(len, encoded))


def test_encoded_rows_are_a_sequence(tmp_path: Path) -> None:
    encoded = encode_dataset(range(100), encode_numbers, key="k", cache_dir=tmp_path)
    np.testing.assert_array_equal(encoded[-1].input_ids, list(encoded)[-1].input_ids)
    assert [len(each) for each in encoded[5:90:17]] == encoded.lengths[5:90:17].tolist()
    with pytest.raises(IndexError, match="there are"):
        encoded[len(encoded)]
    # Whoever gets a sample may write into it.
    encoded[0].input_ids[:] = 0
    check_numbers(pickle.loads(pickle.dumps(encoded)), range(100))


def test_nothing_is_encoded_twice(tmp_path: Path) -> None:
    asked: list[int] = []

    def encode(numbers: Sequence[int]) -> list[Outcome]:
        asked.extend(numbers)
        return encode_numbers([each % 48 for each in numbers])

    for _ in range(2):
        encode_dataset(range(100), encode, key="k", cache_dir=tmp_path)
    assert asked == list(range(100))
    encode_dataset(range(100), encode, key="another", cache_dir=tmp_path)
    assert len(asked) == 200


def test_rows_that_are_none_and_a_cache_that_is_none(tmp_path: Path) -> None:
    assert list(encode_dataset([], encode_numbers, key="k", cache_dir=tmp_path)) == []
    encoded = encode_dataset(range(40), encode_numbers, key="k", cache_dir=None)
    check_numbers(encoded, range(40))
    folder = encoded.folder
    # A forked process, such as a data loader's worker, does not take them away.
    process = os.fork()
    if process == 0:
        del encoded
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    assert folder.is_dir()
    del encoded
    assert not folder.exists()


def test_an_interrupted_encoding_goes_on_at_the_first_missing_shard(tmp_path: Path) -> None:
    asked: list[int] = []

    def encode(numbers: Sequence[int]) -> list[Outcome]:
        asked.extend(numbers)
        if len(asked) == 96:
            raise KeyboardInterrupt
        return encode_numbers(numbers)

    with pytest.raises(KeyboardInterrupt):
        encode_dataset(range(150), encode, key="k", cache_dir=tmp_path)
    # No half of a shard is left.
    assert sorted(each.name for each in (tmp_path / "k").glob("*")) == [".lock", "000000.shard", "000001.shard"]
    asked.clear()
    check_numbers(encode_dataset(range(150), encode, key="k", cache_dir=tmp_path), range(150))
    assert asked == list(range(64, 150))


@pytest.mark.parametrize("damage", ["cut", "flipped", "flipped table", "empty", "foreign", "moved"])
def test_a_damaged_shard_is_an_error_to_read_and_is_made_again(tmp_path: Path, damage: str) -> None:
    encoded = encode_dataset(range(100), encode_numbers, key="k", cache_dir=tmp_path)
    path = shard_path(tmp_path / "k", 1)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-60] ^= 1
    written = {
        "cut": content[:-10],
        "flipped": bytes(flipped),
        # Behind the samples and before the JSON object, there are the tables.
        "flipped table": flip(content, content.index(b'{"version"') - 40),
        "empty": b"",
        "foreign": b"something else" * 100,
        "moved": shard_path(tmp_path / "k", 0).read_bytes(),
    }
    # In place of the old file, as the writer does: the other is mapped.
    path.unlink()
    path.write_bytes(written[damage])
    with pytest.raises(UnreadableDataset, match=r"000001\.shard.*remove the file"):
        pickle.loads(pickle.dumps(encoded))
    check_numbers(encode_dataset(range(100), encode_numbers, key="k", cache_dir=tmp_path), range(100))


def flip(content: bytes, place: int) -> bytes:
    """Return the content with one bit changed."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("number", [5, 14])
def test_a_damaged_sample_is_an_error_to_read(tmp_path: Path, number: int) -> None:
    def encode(numbers: Sequence[int]) -> list[Outcome]:
        return [[make_sample(each)] for each in numbers]

    encoded = encode_dataset(range(20), encode, key="k", cache_dir=tmp_path)
    path = shard_path(tmp_path / "k", 0)
    content = path.read_bytes()
    sample = make_sample(number)
    damaged = sample.media["pixel_values"].tobytes() if sample.media else sample.input_ids.astype("<u2").tobytes()
    place = content.index(damaged) + len(damaged) // 2
    path.unlink()
    path.write_bytes(flip(content, place))
    again = pickle.loads(pickle.dumps(encoded))
    for each in range(20):
        if each != number:
            np.testing.assert_array_equal(again[each].input_ids, make_sample(each).input_ids)
    with pytest.raises(UnreadableDataset, match=r"000000\.shard.*a sample is damaged; remove the file"):
        again[number]


def test_a_cache_that_cannot_be_written_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnusableCache, match=r"cannot be made.*SWIFT_CACHE.*--load_from_cache_file false"):
        encode_dataset(range(3), encode_numbers, key="k", cache_dir=tmp_path / "file" / "encoded")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="writes to a device that is always full")
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool) -> None:
    opened = Path.open

    def open_full(path: Path, *args: str, **options: object) -> object:
        return opened(Path("/dev/full"), "wb") if path.suffix == ".tmp" else opened(path, *args, **options)  # type: ignore[call-overload]  # as given

    monkeypatch.setattr(Path, "open", open_full)
    words = "SWIFT_CACHE.*--load_from_cache_file false" if is_kept else "TMPDIR"
    with pytest.raises(UnusableCache, match=rf"cannot be written to .*: No space left on device; .*{words}"):
        encode_dataset(range(99), encode_numbers, key="k", cache_dir=tmp_path if is_kept else None)


def test_errors_of_reading_rows_are_not_the_caches(tmp_path: Path) -> None:
    def fail(_: Sequence[int]) -> list[Outcome]:
        raise OSError("of the rows")

    with pytest.raises(OSError, match=r"^of the rows$"):
        encode_dataset(range(3), fail, key="k", cache_dir=tmp_path)


def test_errors_that_may_pass_are_tried_again_if_wanted(tmp_path: Path) -> None:
    def fail(numbers: Sequence[int]) -> list[Outcome]:
        return [ConnectionError("the network is down") if each == 40 else [make_sample(each)] for each in numbers]

    failed = encode_dataset(range(100), fail, key="k", cache_dir=tmp_path)
    assert failed.failures == [(40, "ConnectionError", "the network is down")]
    asked: list[int] = []

    def encode(numbers: Sequence[int]) -> list[Outcome]:
        asked.extend(numbers)
        return [[make_sample(each)] for each in numbers]

    assert len(encode_dataset(range(100), encode, key="k", cache_dir=tmp_path, retry=False)) == 99
    assert asked == []
    assert len(encode_dataset(range(100), encode, key="k", cache_dir=tmp_path)) == 100
    assert asked == list(range(32, 64))
    # Whoever had it open reads what it read before.
    assert len(failed) == 99 and len(failed[98]) == len(make_sample(99))


def encode_as(sample: Encoded, rows: Sequence[int]) -> list[Outcome]:
    return [[sample] for _ in rows]


def test_arguments_and_samples_that_are_none_are_refused(tmp_path: Path) -> None:
    encode = functools.partial(encode_dataset, range(3), key="k", cache_dir=tmp_path)
    for num_proc in (0, 2):
        with pytest.raises(InvalidArgument, match=f"num_proc is {num_proc}"):
            encode(encode_numbers, num_proc=num_proc)
    with pytest.raises(InvalidArgument, match="3 rows were encoded to 1 outcomes"):
        encode(lambda _: [[]])
    ids = np.arange(2)
    broken = {
        "2 input_ids, 1 labels": Encoded(ids, ids[:1], np.ones(2, np.float32)),
        "out of range": Encoded(ids - 1, ids, np.ones(2, np.float32)),
        "array of object": Encoded(ids, ids, np.ones(2, np.float32), {"pixels": np.array([None])}),
    }
    for words, sample in broken.items():
        with pytest.raises(InvalidArgument, match=words):
            encode(functools.partial(encode_as, sample))


def test_shards_suit_small_and_large_sets() -> None:
    assert list(map(count_rows_per_shard, (0, 1, 1024, 3200, 10**6, 10**8))) == [32, 32, 32, 100, 1024, 6103]


def test_what_the_rule_for_long_samples_did_is_counted(tmp_path: Path) -> None:
    def cut(sample: Encoded) -> list[Encoded]:
        if len(sample) > 25:
            return []
        kept = slice(10)
        return [Encoded(sample.input_ids[kept], sample.labels[kept], sample.loss_scale[kept])]

    samples = [make_sample(number) for number in range(60)]
    fitted = encode_dataset(
        range(60), lambda rows: [fit_samples([samples[each]], cut) for each in rows], key="k", cache_dir=tmp_path
    )
    lengths = list(map(len, samples))
    assert fitted.counts.num_left_out == sum(length > 25 for length in lengths) > 0
    assert fitted.counts.num_cut == sum(10 < length <= 25 for length in lengths) > 0
    assert fitted.counts.longest == max(lengths) and fitted.lengths.max() == 10
    assert fitted.counts.num_untrained == 0
    assert fit_samples([], cut) == FittedRow(samples=[])


def chat_row(length: int) -> ChatRow:
    """Return a row whose answer has this length."""
    messages = (Message(role="user", content="?"), Message(role="assistant", content="7" * length))
    return ChatRow(conversation=Conversation(messages=messages), origin=Origin("a.jsonl", 1))


@pytest.mark.parametrize(
    ("strategy", "kept", "errors"), [("delete", 7, {}), ("right", 20, {}), ("raise", 7, {"SampleTooLong": 13})]
)
def test_the_rule_for_long_samples_is_the_templates(
    tmp_path: Path, strategy: str, kept: int, errors: dict[str, int]
) -> None:
    folder = write_tiny_folder(tmp_path / "model")
    rows = [chat_row(1)] * 7 + [chat_row(200)] * 13
    args = TemplateArgs(template="chatml", max_length=60, truncation_strategy=strategy)  # type: ignore[arg-type]  # from a table
    template = Template.from_folder(folder, args)
    encode = functools.partial(encode_chat_rows, template=template)
    encoded = encode_dataset(rows, encode, key="k", cache_dir=tmp_path)
    assert (len(encoded), encoded.counts.errors) == (kept, errors)
    assert encoded.counts.num_cut == (13 if strategy == "right" else 0)
    assert encoded.counts.num_left_out == (13 if strategy == "delete" else 0)
    assert encoded.lengths.max() <= 60
