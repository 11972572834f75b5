"""examples/third_party_server, run for real: the proxy on loopback, in front of a server that answers fixed tokens."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from house import ROOT
from swift_templates import Conversation, Message, Template, ToolCall
from swift_templates.family import families
from swift_templates.testing import write_tiny_folder

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

FOLDER = ROOT / "examples" / "third_party_server"
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION = {"role": "user", "content": "Is it warm in Paris? <|im_end|>"}


@dataclass
class Backend:
    """A server of completions that answers what it is told to, and keeps what it is asked."""

    url: str
    answer: list[int] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200


@pytest.fixture(scope="module")
def served() -> Iterator[Backend]:
    """The backend."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.asked.append(body)
            if body.get("stream"):
                events: list[Any] = [{"choices": [{"token_ids": [each]}]} for each in fake.answer]
                events += [{"choices": [{"token_ids": [], "finish_reason": "stop"}]}, {"choices": []}]
                text = "".join(f"data: {json.dumps(each)}\n\n" for each in events) + "data: [DONE]\n\n"
            else:
                text = json.dumps({"choices": [{"token_ids": fake.answer, "finish_reason": "stop"}]})
            self.send_response(fake.status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = Backend(f"http://127.0.0.1:{server.server_port}/v1/completions")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a tiny model that speaks as Qwen 3 does."""
    family = families.load("qwen3")
    assert not isinstance(family, type)
    return write_tiny_folder(tmp_path_factory.mktemp("model"), chat_template=family.chat_template)


@pytest.fixture(scope="module")
def proxy(served: Backend, model: Path) -> Iterator[str]:
    """The proxy's address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/chat/completions"
        number = listening.fileno()
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(FOLDER), "--fd", str(number), "server:app"]
        environment = {**os.environ, "MODEL": str(model), "BACKEND": served.url, "NO_PROXY": "127.0.0.1"}
        process = subprocess.Popen(command, env=environment, pass_fds=[number])
    try:
        # The socket listens already, so that requests wait until the server is there.
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            try:
                post(url, {})
            except OSError:
                time.sleep(0.1)
            else:
                break
        assert process.poll() is None
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def backend(served: Backend) -> Backend:
    """The backend, as new."""
    served.answer, served.status = [], 200
    served.asked.clear()
    return served


def post(url: str, body: object) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310  # loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask(url: str, **body: object) -> dict[str, Any]:
    status, text = post(url, {"messages": [QUESTION], **body})
    assert status == 200, text
    answer: dict[str, Any] = json.loads(text)
    return answer


def stream(url: str, **body: object) -> list[dict[str, Any]]:
    status, text = post(url, {"messages": [QUESTION], "stream": True, **body})
    assert status == 200, text
    *events, last = [each.removeprefix("data: ") for each in text.strip().split("\n\n")]
    assert last == "[DONE]"
    return [json.loads(each) for each in events]


def joined(events: list[dict[str, Any]], name: str) -> str:
    return "".join(event["choices"][0]["delta"].get(name, "") for event in events)


@pytest.fixture(scope="module")
def template(model: Path) -> Template:
    return Template.from_folder(model)


def answer_ids(template: Template, answer: Message) -> list[int]:
    """The tokens that a model trained with this template answers."""
    question = Message(role="user", content="?")
    [sample] = template.encode(Conversation(messages=(question, answer), tools=(WEATHER,)))
    return [int(each) for each in sample.labels if each >= 0]


def test_the_backend_gets_the_templates_prompt(proxy: str, backend: Backend, template: Template) -> None:
    backend.answer = answer_ids(template, Message(role="assistant", content="Yes. 🎉"))
    answer = ask(proxy, max_tokens=7, temperature=0)
    conversation = Conversation(messages=(Message(role="user", content=str(QUESTION["content"])),))
    [asked] = backend.asked
    assert asked == {
        "prompt": template.encode_prompt(conversation).input_ids,
        "stop_token_ids": sorted(template.stop_token_ids),
        "return_token_ids": True,
        "max_tokens": 7,
        "temperature": 0,
    }
    assert answer["object"] == "chat.completion"
    [choice] = answer["choices"]
    assert choice == {"index": 0, "message": {"role": "assistant", "content": "Yes. 🎉"}, "finish_reason": "stop"}
    sizes = (len(asked["prompt"]), len(backend.answer))
    assert answer["usage"] == {
        "prompt_tokens": sizes[0],
        "completion_tokens": sizes[1],
        "total_tokens": sum(sizes),
    }


def test_a_call_and_its_result_go_both_ways(proxy: str, backend: Backend, template: Template) -> None:
    call = ToolCall("weather", {"city": "Paris"})
    backend.answer = answer_ids(template, Message(role="assistant", content="I look.", tool_calls=(call,)))
    [choice] = ask(proxy, tools=[WEATHER])["choices"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] == "I look."
    [made] = choice["message"]["tool_calls"]
    assert made["type"] == "function" and made["id"].isalnum()
    assert made["function"]["name"] == "weather" and json.loads(made["function"]["arguments"]) == {"city": "Paris"}

    result = {"role": "tool", "content": "21 degrees", "tool_call_id": made["id"]}
    backend.answer = answer_ids(template, Message(role="assistant", content="Warm."))
    ask(proxy, messages=[QUESTION, choice["message"], result], tools=[WEATHER])
    messages = (
        Message(role="user", content=str(QUESTION["content"])),
        Message(role="assistant", content="I look.", tool_calls=(call,)),
        Message(role="tool", content="21 degrees"),
    )
    expected = template.encode_prompt(Conversation(messages=messages, tools=(WEATHER,))).input_ids
    assert backend.asked[-1]["prompt"] == expected


THOUGHT = Message(role="assistant", content="Yes, 21 < 30 degrees 🎉.", reasoning_content="Paris, in\nJuly <tiny>.")


def test_pieces_of_a_stream_join_to_the_whole_answer(proxy: str, backend: Backend, template: Template) -> None:
    backend.answer = answer_ids(template, THOUGHT)
    [choice] = ask(proxy)["choices"]
    assert choice["message"]["content"] == THOUGHT.content
    assert choice["message"]["reasoning_content"] == THOUGHT.reasoning_content

    events = stream(proxy)
    assert joined(events, "content") == THOUGHT.content
    assert joined(events, "reasoning_content") == THOUGHT.reasoning_content
    assert len(events) > 15  # in pieces, not at once
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["completion_tokens"] == len(backend.answer)
    assert backend.asked[0]["prompt"] == backend.asked[1]["prompt"]


def test_a_call_comes_out_of_a_stream(proxy: str, backend: Backend, template: Template) -> None:
    call = ToolCall("weather", {"city": "Orléans"})
    backend.answer = answer_ids(template, Message(role="assistant", content="I look.", tool_calls=(call,)))
    events = stream(proxy, tools=[WEATHER])
    assert joined(events, "content") == "I look."
    [made] = [each for event in events for each in event["choices"][0]["delta"].get("tool_calls", [])]
    assert made["index"] == 0 and json.loads(made["function"]["arguments"]) == {"city": "Orléans"}
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "no"),
        ([], "JSON object"),
        ({}, "messages"),
        ({"messages": []}, "no messages"),
        ({"messages": [{"role": "user"}, {"role": "user", "content": "x"}]}, "after 'user'"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "'robot'"),
        ({"messages": [{"content": "x"}]}, "role"),
        ({"messages": ["x"]}, "'str'"),
        ({"messages": [{"role": "user", "content": 3}]}, "int 3"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "text"),
        ({"messages": [QUESTION], "tools": [{"name": "weather"}]}, "tool"),
        (
            {"messages": [QUESTION, {"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}]},
            "JSONDecodeError|KeyError",
        ),
    ],
)
def test_a_bad_request_is_400_in_openais_form(proxy: str, backend: Backend, body: object, message: str) -> None:
    status, text = post(proxy, body)
    assert status == 400
    error = json.loads(text)["error"]
    assert error["type"] == "invalid_request_error" and set(error) == {"message", "type", "param", "code"}
    assert any(each in error["message"] for each in message.split("|")) or body == b"{"
    assert str(ROOT) not in text and "Traceback" not in text
    assert backend.asked == []


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_backend_that_fails_is_502_without_its_address(proxy: str, backend: Backend, is_streamed: bool) -> None:
    backend.status = 500
    status, text = post(proxy, {"messages": [QUESTION], "stream": is_streamed})
    assert status == 502
    assert json.loads(text)["error"]["message"] == "the backend failed"
    assert "127.0.0.1" not in text


def test_the_proxy_brings_neither_torch_nor_transformers(model: Path) -> None:
    code = (
        "import sys, server; print([name for name in ('torch', 'transformers', 'swift_data') if name in sys.modules])"
    )
    environment = {**os.environ, "MODEL": str(model), "BACKEND": "http://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=FOLDER, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_proxy_is_short() -> None:
    assert len((FOLDER / "server.py").read_text(encoding="utf-8").splitlines()) < 60
