"""gpt-oss (harmony): every message names its role and, if it is the model's, its channel.

    <|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.
    Knowledge cutoff: 2024-06

    Reasoning: medium

    # Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>
    <|start|>developer<|message|># Instructions

    You are helpful.<|end|><|start|>user<|message|>Hello<|end|>
    <|start|>assistant<|channel|>analysis<|message|>A greeting.<|end|>
    <|start|>assistant<|channel|>final<|message|>Hi.<|return|>

There is no line break between messages (here are some to fit the page). A system prompt is the developer's message;
tools follow it there, as types of TypeScript. Reasoning is in the channel `analysis`, what is said beside a call in
`commentary`; an answer has one call, and its result comes from the function:

    <|start|>assistant<|channel|>analysis<|message|>Look it up.<|end|>
    <|start|>assistant<|channel|>commentary<|message|>I look.<|end|>
    <|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Rome"}<|call|>
    <|start|>functions.weather to=assistant<|channel|>commentary<|message|>sunny<|end|>

Reasoning stays in the history until there is an answer in the channel `final`; then it is taken out, and the answer
ends with <|end|>. The line `Current date: ...` is left out, so that a row is the same tokens tomorrow.

Source: docs/format.md of openai/harmony. The chat template of openai/gpt-oss-20b is another in three places: it puts
two line breaks after the instructions, names the recipient before the channel, and has no place for what is said
beside a call.
"""

from __future__ import annotations

from ..family import Family

# Types as `dialects/_typescript.py` writes them; a test holds the one against the other.
_TYPES = (
    "{% macro comment(text) %}{% if text is string %}"
    "{% for line in text.splitlines() %}{{ '// ' + line + '\n' }}{% endfor %}{% endif %}{% endmacro %}"
    "{% macro kind_of(schema, kind) %}{% if kind == 'array' %}{% set inner = type_of(schema['items']) %}"
    "{{ '(' + inner + ')[]' if ' | ' in inner else inner + '[]' }}"
    "{% elif kind == 'object' %}{{ object_of(schema) if schema['properties'] else 'object' }}"
    "{% elif kind == 'integer' %}number"
    "{% else %}{{ kind if kind in ('number', 'string', 'boolean', 'null') else 'any' }}{% endif %}{% endmacro %}"
    "{% macro type_of(schema) %}"
    "{% if schema is not mapping %}any"
    "{% elif schema['anyOf'] or schema['oneOf'] %}"
    "{% for each in schema['anyOf'] or schema['oneOf'] %}"
    "{{ ('' if loop.first else ' | ') + type_of(each) }}{% endfor %}"
    "{% elif schema['enum'] %}"
    "{% for each in schema['enum'] %}{{ ('' if loop.first else ' | ') + each | tojson }}{% endfor %}"
    "{% elif schema['type'] is string %}{{ kind_of(schema, schema['type']) }}"
    "{% else %}{% for kind in schema['type'] or ['any'] %}"
    "{{ ('' if loop.first else ' | ') + kind_of(schema, kind) }}{% endfor %}{% endif %}{% endmacro %}"
    "{% macro object_of(schema) %}{{ '{\n' }}{% for name, each in schema['properties'].items() %}"
    "{% if each is mapping %}{{ comment(each['description']) }}{% endif %}"
    "{{ name + ('' if name in schema['required'] or [] else '?') + ': ' + type_of(each) + ',' }}"
    "{% if each is mapping and 'default' in each %}{% set default = each['default'] %}"
    "{{ ' // default: ' + (default if default is string else default | tojson) }}{% endif %}{{ '\n' }}"
    "{% endfor %}{{ '}' }}{% endmacro %}"
)

GPT_OSS = Family(
    chat_template=(
        _TYPES + "{{ '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n' }}"
        "{{ 'Knowledge cutoff: 2024-06\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, final. ' }}"
        "{{ 'Channel must be included for every message.' }}"
        "{% if tools %}{{ '\nCalls to these tools must go to the commentary channel: \\'functions\\'.' }}{% endif %}"
        "{{ '<|end|>' }}"
        "{% set system = messages[0].content if messages and messages[0].role == 'system' else none %}"
        "{% if system is not none or tools %}{{ '<|start|>developer<|message|>' }}"
        "{% if system is not none %}{{ '# Instructions\n\n' + system }}{% endif %}"
        "{% if tools %}{{ '# Tools\n\n## functions\n\nnamespace functions {\n\n' if system is none else "
        "'\n\n# Tools\n\n## functions\n\nnamespace functions {\n\n' }}"
        "{% for tool in tools %}{% set function = tool.function %}{% set schema = function.parameters %}"
        "{{ comment(function.description) + 'type ' + function.name + ' = ' }}"
        "{{ '(_: ' + object_of(schema) + ')' if schema and schema['properties'] else '()' }}{{ ' => any;\n\n' }}"
        "{% endfor %}{{ '} // namespace functions' }}{% endif %}{{ '<|end|>' }}{% endif %}"
        "{% set ns = namespace(called=none, final=-1) %}"
        "{% for message in messages[:-1] %}{% if message.role == 'assistant' and not message.tool_calls %}"
        "{% set ns.final = loop.index0 %}{% endif %}{% endfor %}"
        "{% for message in messages %}"
        "{% if message.role == 'user' %}{{ '<|start|>user<|message|>' + message.content + '<|end|>' }}"
        "{% elif message.role == 'assistant' %}"
        "{% if message.reasoning_content and loop.index0 > ns.final %}"
        "{{ '<|start|>assistant<|channel|>analysis<|message|>' + message.reasoning_content + '<|end|>' }}{% endif %}"
        "{% if message.tool_calls %}"
        "{% if message.tool_calls | length > 1 %}"
        "{{ raise_exception('this format has one call an answer; put others into answers of their own') }}{% endif %}"
        "{% set call = message.tool_calls[0].function %}{% set ns.called = call.name %}"
        "{% if message.content %}"
        "{{ '<|start|>assistant<|channel|>commentary<|message|>' + message.content + '<|end|>' }}{% endif %}"
        "{{ '<|start|>assistant<|channel|>commentary to=functions.' + call.name + ' <|constrain|>json<|message|>' }}"
        "{{ call.arguments | tojson + '<|call|>' }}"
        "{% else %}{{ '<|start|>assistant<|channel|>final<|message|>' + message.content }}"
        "{{ '<|return|>' if loop.last else '<|end|>' }}{% endif %}"
        "{% elif message.role == 'tool' and ns.called %}"
        "{{ '<|start|>functions.' + ns.called + ' to=assistant<|channel|>commentary<|message|>' }}"
        "{{ message.content + '<|end|>' }}"
        "{% elif not loop.first %}"
        "{{ raise_exception('this format has no place for role ' + message.role + ' here') }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
    ),
    stop_tokens=("<|return|>", "<|call|>"),
    answer_pattern=(
        r"(?:<\|channel\|>analysis<\|message\|>(?P<reasoning>.*?)<\|end\|>(?:<\|start\|>assistant)?)?"
        r"<\|channel\|>final<\|message\|>(?P<content>.*)"
    ),
)
