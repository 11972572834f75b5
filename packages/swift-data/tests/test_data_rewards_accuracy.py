"""Accuracy and cosine: answers found in texts, and compared by value."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from swift_data.reward import load_reward
from swift_data.rewards._answers import find_answer
from swift_data.rewards._math_worker import read_literal
from swift_templates.errors import MissingDependency


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{4} or rather \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{x = \boxed{4}}", "4"),
        (r"\boxed{4} and \boxed{5", "4"),
        (r"$$\boxed{ 4 }$$ because #### 5", "4"),
        ("Twice 21.\n#### 42", "42"),
        ("#### 41\n#### 42\nDone.", "42"),
        ("I said: the answer is 3.5. Clear?", "3.5"),
        ("Hence the final answer is: $7$.", "7"),
        ("**Answer:** B", "B"),
        ("**Answer**: B. Paris", "B"),
        ("所以答案是 42。对吗?", "42"),
        ("<think>4? \\boxed{4}</think>\n<answer>5</answer>", "5"),
        (r"<answer>It is \boxed{5}, yes</answer>", "5"),
        ("<answer>4</answer> no, <answer>5</answer>", "5"),
        ("<answer>5", "5"),
        ("thinking goes on</think>\\boxed{5}", "5"),
        ("<think>\\boxed{4} but", None),
        ("42", "42"),
        ("  $42$. ", "42"),
        ("$1,042", "1,042"),
        ("$1$ and $2$", "$1$ and $2$"),
        (r"\text{Paris}", "Paris"),
        ("There were 17.\nThen 18.", None),
        ("", None),
        ("x" * 1001, None),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str | None) -> None:
    assert find_answer(text) == answer


@pytest.mark.parametrize(
    ("answer", "solution", "right"),
    [
        ("42", "42.0", True),
        ("42", "43", False),
        ("1,042", "1042", True),
        ("$18", "18", True),
        ("18 dollars", "18", True),
        ("18", "18 apples", True),
        ("18 million", "18", False),
        ("The total is 5 apples", "5", True),
        ("It is 5 or 6", "5", False),
        ("Surely not 5", "5", False),
        ("2 pi", "2", False),
        ("5 and a half", "5", False),
        ("5 x and 3 y", "5", False),
        ("0.5", r"\frac{1}{2}", True),
        ("1/2", r"\frac12", True),
        ("0.3333333", "1/3", True),
        ("0.33", "1/3", False),
        ("50%", "0.5", True),
        (r"2\sqrt{2}", r"\sqrt{8}", True),
        ("(x+1)^2", "x^2+2x+1", True),
        ("3", "x=3", True),
        ("x = 3", "3", True),
        (r"\{2, 1\}", r"\{1, 2\}", True),
        ("{2, 1}", "{1, 2}", True),
        ("2, 1", "1 and 2", True),
        ("1", "1, 2", False),
        ("(2, 1)", "(1, 2)", False),
        ("[0, 1)", "[0,1)", True),
        (r"90^\circ", "90", True),
        ("paris", "Paris", True),
        ("London", "Paris", False),
        ("(B)", "B", True),
        ("b", "B", True),
        ("B. Paris", "B", True),
        ("B", "(B) Paris", True),
        (r"\text{(B)}", "B", True),
        ("A or B", "A", False),
        ("C", "B", False),
        # One step beyond 2^53, where floats can no longer tell numbers apart.
        ("9007199254740993", "9007199254740992", False),
    ],
)
def test_answers_are_compared_by_value(answer: str, solution: str, right: bool) -> None:
    accuracy = load_reward("accuracy")
    assert accuracy([f"<think>?</think>\n<answer>{answer}</answer>"], solution=[solution]) == [float(right)]
    assert accuracy([f"So:\n\\boxed{{{answer}}}"], solution=[f"<answer>{solution}</answer>"]) == [float(right)]


def test_the_solution_may_be_a_worked_one_or_a_number() -> None:
    worked = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips.\n#### 72"
    completions = ["First 24.\nThe answer is 72.", "First 24.\nThe answer is 24.", r"\boxed{5}"]
    assert load_reward("accuracy")(completions, solution=[worked, worked, 5]) == [1.0, 0.0, 1.0]


def test_endless_answers_and_solutions_are_wrong_at_once() -> None:
    completions = ["." * 200_000, "9" * 200_000, "\\boxed{" * 50_000, "3", "answer is " * 50_000]
    assert load_reward("accuracy")(completions, solution=["3", "3", "3", "9" * 10_000, "3"]) == [0.0] * 5


@pytest.mark.parametrize("solution", [None, "", "  "])
def test_without_a_solution_there_is_nothing_to_score_by(solution: str | None) -> None:
    assert math.isnan(load_reward("accuracy")(["4"], solution=[solution])[0])


def test_a_comparison_that_takes_too_long_is_wrong_and_the_next_one_works(caplog: pytest.LogCaptureFixture) -> None:
    accuracy = load_reward("accuracy", timeout_s=0.3)
    with caplog.at_level(logging.WARNING):
        assert accuracy(["3", "x+1"], solution=["2^{9^{9^9}}", "1+x"]) == [0.0, 1.0]
    assert "took more than 0.3 s" in caplog.text


def test_threads_may_compare_at_once() -> None:
    # math-verify's own time limits refuse to work outside of the main thread.
    accuracy, scored = load_reward("accuracy"), {}

    def score(number: int) -> None:
        completions = [rf"\boxed{{x+{each}}}" for each in range(4)]
        scored[number] = accuracy(completions, solution=[f"{number}+x"] * 4)

    threads = [threading.Thread(target=score, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scored == {number: [float(number == each) for each in range(4)] for number in range(4)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_compares_on_its_own() -> None:
    accuracy = load_reward("accuracy")
    assert accuracy(["x+1"], solution=["1+x"]) == [1.0]
    child = os.fork()
    if child == 0:
        os._exit(0 if accuracy(["x+2", "x+3"], solution=["2+x", "4+x"]) == [1.0, 0.0] else 1)
    assert accuracy(["x+4"] * 20, solution=["4+x"] * 20) == [1.0] * 20
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_answer_is_run_as_code(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    accuracy = load_reward("accuracy")
    for text in (code, f"1 + {code}", rf"\sqrt{{{code}}}", f"(1, {code})", rf"\text{{{code}}}"):
        assert accuracy([f"<answer>{text}</answer>", "3"], solution=["3", text]) == [0.0, 0.0]
    assert not marker.exists()


def test_numbers_are_read_without_eval() -> None:
    written = ["Integer (12 )", "-Integer (3 )", "Symbol ('x_1' )", "E "]
    assert [str(read_literal(code)) for code in written] == ["12", "-3", "x_1", "E"]
    assert read_literal("Float ('2.5' )") == 2.5
    for code in ("__import__ ('os' )", "Symbol ('x' ).func", "exit ", "Integer (9 )**Integer (9 )", "Integer (x )"):
        with pytest.raises(ValueError, match=r"is neither a number nor a name|invalid literal"):
            read_literal(code)


def test_the_comparing_process_ends_with_its_owner() -> None:
    script = (
        "from swift_data.reward import load_reward\n"
        "from swift_data.rewards._formulas import _COMPARER\n"
        "assert load_reward('accuracy')(['x+1'], solution=['1+x']) == [1.0]\n"
        "print(_COMPARER.process.pid)"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(finished.stdout), 0)


def test_without_math_verify_the_extra_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Python has for a module that must not be imported.
    monkeypatch.setitem(sys.modules, "math_verify", None)
    for name in ("accuracy", "cosine"):
        with pytest.raises(MissingDependency, match=r"pip install 'swift-data\[math\]'"):
            load_reward(name)


@pytest.mark.parametrize(
    ("right", "length", "reward"),
    [
        # CosFn(t, T, low, high) = low + (high - low) (1 + cos(pi t / T)) / 2 with T = 300; cos(pi / 3) = 0.5.
        (True, 0, 1.0),
        (True, 100, 0.5 + 0.5 * 0.75),
        (True, 300, 0.5),
        (True, 450, 0.5),
        (False, 0, -0.5),
        (False, 100, 0.0 - 0.5 * 0.75),
        (False, 200, 0.0 - 0.5 * 0.25),
        (False, 300, 0.0),
        (False, 600, 0.0),
    ],
)
def test_cosine_scales_accuracy_by_length(right: bool, length: int, reward: float) -> None:
    cosine = load_reward("cosine", cosine_max_len=300)
    scored = cosine(["4" if right else "5"], solution=["4"], token_ids=[[0] * length])
    assert scored == [pytest.approx(reward, abs=1e-12)]


def test_cosine_takes_its_four_values() -> None:
    # The paper's: r_0^c = 2, r_L^c = 1, r_0^w = -10, r_L^w = 0.
    cosine = load_reward(
        "cosine",
        cosine_min_len_value_correct=2.0,
        cosine_max_len_value_correct=1.0,
        cosine_min_len_value_wrong=-10.0,
        cosine_max_len_value_wrong=0.0,
        cosine_max_len=10,
    )
    scored = cosine(["4", "4", "5", "5"], solution=["4"] * 4, completion_token_lengths=[0, 10, 0, 5])
    assert scored == [2.0, 1.0, -10.0, pytest.approx(-5.0)]
