"""OpenAI's chat API in front of a server that completes token ids; swift-templates does what lies between."""

import json
from collections.abc import Iterator
from contextlib import closing
from os import environ
from typing import Any

import httpx
from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from openai_form import StreamedAnswer, read_message, refusal, wrap, write_message
from swift_templates import Conversation, Template

TEMPLATE, BACKEND, app = Template.from_folder(environ["MODEL"]), httpx.Client(timeout=600), FastAPI()
BAD_REQUEST = (KeyError, TypeError, AttributeError, ValueError)  # the errors of swift-templates are among these


@app.post("/v1/chat/completions")
def chat(body: dict[str, Any]) -> Response:
    """Answer a conversation, whole or in pieces."""
    try:
        tools, messages = tuple(body.pop("tools", None) or ()), tuple(map(read_message, body.pop("messages")))
        prompt = TEMPLATE.encode_prompt(Conversation(messages=messages, tools=tools)).input_ids
    except BAD_REQUEST as error:
        return JSONResponse(refusal(f"{type(error).__name__}: {error}"), 400)
    asked = body | {"prompt": prompt, "stop_token_ids": sorted(TEMPLATE.stop_token_ids), "return_token_ids": True}
    request = BACKEND.build_request("POST", environ["BACKEND"], json=asked)
    response = BACKEND.send(request, stream=body.get("stream") is True).raise_for_status()
    if body.get("stream") is True:
        opened = TEMPLATE.decode(prompt).rstrip().endswith("<think>")
        answer = StreamedAnswer(TEMPLATE, tools, num_prompt=len(prompt), opened=opened)
        return StreamingResponse(stream(response, answer), media_type="text/event-stream")
    choice = response.json()["choices"][0]
    message = write_message(TEMPLATE.parse(choice["token_ids"], tools))
    reason = "tool_calls" if "tool_calls" in message else choice["finish_reason"]
    return JSONResponse(wrap({"message": message, "finish_reason": reason}, len(prompt), len(choice["token_ids"])))


def stream(response: httpx.Response, answer: StreamedAnswer) -> Iterator[str]:
    """Yield an answer's events while the backend makes it."""
    with closing(response):
        for chunk in answer.chunks(response.iter_lines()):
            yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


@app.exception_handler(RequestValidationError)
def refuse(_: object, error: Exception) -> JSONResponse:
    """Say in OpenAI's form that a body is no JSON object."""
    return JSONResponse(refusal("the body is not a JSON object"), 400)


@app.exception_handler(httpx.HTTPError)
def report(_: object, error: Exception) -> JSONResponse:
    """Say in OpenAI's form that the backend failed, and not where it is."""
    return JSONResponse(refusal("the backend failed", kind="server_error"), 502)
