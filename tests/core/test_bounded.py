"""Templates that work for ever or take all memory, and honest ones that do not notice that they are counted."""

from __future__ import annotations

import json
import time
from typing import Any

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lmgraft import bounded, chat, steps
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.errors import UserError
from lmgraft.testing.inputs import byte_tokenizer

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
#: A list of two lists, each of two lists ...: few bytes that are written out as 2**99.
DEEP = "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
MANY = "{% set b = range(99999)|list %}{% for i in range(99999) %}"
#: As deep, of tuples: Python goes through all of one that is a key.
TUPLES = DEEP.replace("[1]", "(1,)").replace("[ns.s, ns.s]", "(ns.s, ns.s)")
TOWER = "{% set ns = namespace(s=1) %}{% for i in range(30000) %}{% set ns.s = (ns.s,) %}{% endfor %}"
LONG = "{% set b = 'a' * 99999 %}"

WITHOUT_END = {
    "loops": "{% set b = range(99999) %}{% for i in b %}{% for j in b %}x{% endfor %}{% endfor %}",
    "loops without turns": "{% set b = range(9999) %}{% for i in b %}{% for j in b if false %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(80) }}",
    "recursive loops": "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{{ loop([[1]]) }}{% endfor %}",
    "generators": "{% for i in range(99999) %}{{ range(99999)|map('abs')|select('none')|first }}{% endfor %}",
    "sums": MANY + "{{ b|sum }}{% endfor %}",
    "searches": MANY + "{{ -1 in b }}{% endfor %}",
    "tests": MANY + "{{ -1 is in(b) }}{% endfor %}",
    "slices": MANY + "{% set c = b[::-1] %}{% endfor %}",
    "methods": MANY + "{{ b.index(99998) }}{% endfor %}",
    "slow filters": "{% for i in range(999) %}{{ ('a.com ' * 99999)|urlize|length }}{% endfor %}",
    "deep lists written": DEEP + "{{ ns.s }}",
    "deep lists as JSON": DEEP + "{{ ns.s|tojson }}",
    "deep lists formatted": DEEP + "{{ '{}'.format(ns.s) }}",
    "deep lists by percent": DEEP + "{{ '%s' % [ns.s] }}",
    "deep lists compared": DEEP + DEEP.replace("ns", "other") + "{{ ns.s == other.s }}",
    "deep lists looked for": DEEP + DEEP.replace("ns", "other") + "{{ [ns.s].index(other.s) }}",
    "deep lists sorted": DEEP + DEEP.replace("ns", "other") + "{{ [ns.s, other.s]|sort }}",
    "deep lists selected": DEEP + DEEP.replace("ns", "other") + "{{ [ns.s]|select('equalto', other.s)|list }}",
    "deep lists of a namespace": DEEP + "{{ ns }}",
    "deep lists of a mapping": DEEP + "{{ {'a': ns.s}.values() }}",
    "deep keys": TUPLES + "{% set x = {ns.s: 1} %}",
    "deep keys looked up": TUPLES + "{{ {}[ns.s] }}",
    "deep keys got": TUPLES + "{{ {}.get(ns.s) }}",
    "deep keys searched": TUPLES + "{{ ns.s in {} }}",
    "deep keys tested": TUPLES + "{{ ns.s is in({}) }}",
    "deep keys reversed": TUPLES + "{{ [ns.s]|reverse|unique|list }}",
    "long texts selected": LONG + "{{ ([b|upper] * 99999)|select('upper')|list|length }}",
    "long texts looked for": LONG + "{{ ([b ~ 1] * 99999).index(b ~ 2) }}",
    "strip": LONG + "{{ b.strip('b' * 99999 ~ 'a') }}",
    "trim": LONG + "{{ b|trim('b' * 99999 ~ 'a') }}",
    "tags": "{{ ('<!---->' * 99999)|striptags }}",
    "tags of a method": "{{ (('<!---->' * 99999)|safe).striptags() }}",
    "arguments": "{% macro f() %}{{ varargs|length }}{% endmacro %}" + MANY + "{{ f(*b) }}{% endfor %}",
}
TOO_LARGE = {
    "a tower of tuples": TOWER + "{% set x = {ns.s: 1} %}",
    "bytes": "{{ 'a'.encode() * 99999999999 }}",
    "bytes of a width": "{{ 'a'.encode().ljust(99999999999) }}",
    "bytes of a number": "{{ (5).to_bytes(99999999999, 'big') }}",
    "numbers of digits": "{{ ('f' * 999999)|int(base=16) }}",
    "translate": LONG + "{{ b.translate({97: b}) }}",
    "many widths": "{{ ('{0:999999}' * 30000).format(1) }}",
    "many widths by percent": "{{ ('%999999d' * 300) % ((1,) * 300) }}",
    "many widths of bytes": "{{ ('%999999d'.encode() * 300) % ((1,) * 300) }}",
    "format filter written often": LONG + "{{ ('%(b)s' * 9999)|format(b=b) }}",
    "format filter of many": LONG + "{{ (['%s%s'] * 99999)|map('format', b, b)|list }}",
    "center filter of many": "{{ range(99999)|map('string')|map('center', 99999)|list|length }}",
    "indented JSON": "{{ range(9999)|list|tojson(indent=99999) }}",
    "separated JSON": LONG + "{{ range(9999)|list|tojson(separators=(b, b)) }}",
    "wordwrap": LONG + "{{ ('a ' * 9999)|wordwrap(1, true, b) }}",
    "wordwrap of a long word": "{{ ('a' * 150000)|wordwrap(1) }}",
    "words of lipsum": "{{ lipsum(n=1000, min=1000000, max=1000001) }}",
    "a chain of sums": "{% set b = 'a' * 4000000 %}{{ " + " + ".join(["b"] * 99) + " }}",
    "join of reversed": LONG + "{{ ([b] * 99999)|reverse|join }}",
    "sum of lists": "{{ ([[1]] * 9999)|sum(start=[]) }}",
    "texts doubled": "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "texts added": "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "times": "{{ 'x' * 99999999999 }}",
    "lists times": "{{ [[1] * 9999999] * 9999999 }}",
    "powers": "{{ 10 ** (10 ** 10) }}",
    "squares": "{% set ns = namespace(s=3) %}{% for i in range(99) %}{% set ns.s = ns.s * ns.s %}{% endfor %}",
    "center": "{{ 'x'.center(99999999999) }}",
    "center filter": "{{ 'x'|center(99999999999) }}",
    "percent": "{{ '%99999999999d' % 1 }}",
    "format": "{{ '{:99999999999}'.format(1) }}",
    "format filter": "{{ '%99999999999d'|format(1) }}",
    "format of a computed width": "{{ '{:{}}'.format(1, 99999999999) }}",
    "format written often": LONG + "{{ ('{0}' * 99999).format(b) }}",
    "lipsum": "{{ lipsum(n=99999999999) }}",
    "batch": "{{ [1]|batch(99999999999, 0)|list }}",
    "replace": LONG + "{{ b.replace('a', b).replace('a', b) }}",
    "replace filter": LONG + "{{ b|replace('a', b)|replace('a', b) }}",
    "join": LONG + "{{ b.join(b) }}",
    "join filter": LONG + "{{ (b|list)|join(b) }}",
    "indent": "{{ ('a\n' * 99999)|indent(99999) }}",
    "tabs": "{{ ('\t' * 99999).expandtabs(99999) }}",
}


@pytest.mark.parametrize("name", [*WITHOUT_END, *TOO_LARGE])
def test_a_template_without_an_end_is_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_FIRST", 200_000)
    monkeypatch.setattr(steps, "_EACH", 0)
    template = (WITHOUT_END | TOO_LARGE)[name]
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        chat.render(HELLO, template)
    assert time.process_time() - started < 10
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert lines[0] == "the chat template cannot write this conversation"
    if name != "recursive loops":  # Python's own bound on depth comes first
        assert "it goes on for longer" in lines[1] or "it makes a" in lines[1] or "it formats with" in lines[1]
        assert template[:5] in lines[1]


def test_all_renderings_of_a_conversation_share_one_allowance(
    saved: SavedTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each answer: what each might do alone would be as many times as much."""
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% for i in range(9999) %}{% endfor %}{% endfor %}"
    talk = [{"role": role, "content": "a"} for _ in range(9) for role in ("user", "assistant")]
    assert chat.encode_prompt(talk[:1], saved, template)
    chat.render(talk, template)
    monkeypatch.setattr(steps, "allowance", lambda messages, characters: 400_000)
    chat.render(talk, template)
    with pytest.raises(UserError, match="it goes on for longer"):
        chat.encode_prompt(talk, saved, template)
    chat.render(talk, template)  # the next conversation begins anew


#: As published templates write them: macros, namespaces, slices, tests, filters, blocks, methods of texts.
HONEST = {
    "plain": chat.TEMPLATES["chatml"],
    "macros": """{%- macro shown(message, number) %}
{{- '<' ~ message.role ~ ' ' ~ number ~ '>' }}
{%- if message.content is string and '</think>' in message.content %}
    {%- set text = message.content.split('</think>')[-1].lstrip('\\n') %}
{%- else %}
    {%- set text = message.content|trim|replace('\\r', '')|default('none', true) %}
{%- endif %}
{{- text|indent(2) + eos_token }}
{%- endmacro %}
{{- bos_token }}
{%- set ns = namespace(last='', count=0) %}
{%- if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}
{%- for message in rest if message.role in ['user', 'assistant'] %}
    {%- set ns.count = ns.count + 1 %}
    {%- if message.content.startswith('some') and not loop.last %}{% set ns.last = loop.index0 %}{% endif %}
    {{- shown(message, '%03d' % loop.index) }}
    {{- {'role': message.role, 'many': [1, 2.5, none, true]}|tojson }}
    {{- ', '.join([message.role, 'x' * 3]) }}{{ '{:>8}'.format(ns.count) }}
{%- else %}nothing{% endfor %}
{%- filter upper %}{{ messages|map(attribute='role')|unique|join('/') }}{% endfilter %}
{%- set kept %}{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{% endset %}{{ kept }}
{{- 2 ** 10 }} {{ 17 % 5 }} {{ range(3)|sum }} {{ messages|length > 2 }} {{ (messages|last).role }}
{%- for group in messages[:4]|batch(2) recursive %}{{ group|length }}{{ loop.depth }}{% endfor %}
{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif %}""",
    "a namespace that a loop fills": """{% if not add_generation_prompt is defined %}
{% set add_generation_prompt = false %}{% endif %}
{% set ns = namespace(is_first=false, is_tool=false, system_prompt='', is_first_sp=true) %}
{%- for message in messages %}{%- if message['role'] == 'system' %}
{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}
{%- set ns.is_first_sp = false %}
{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}
{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}
{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{ '<User>' + message['content'] }}{%- endif %}
{%- if message['role'] == 'assistant' and message['tool_calls'] is defined and message['tool_calls'] is not none %}
{%- set ns.is_first = false -%}{%- for tool in message['tool_calls'] %}{%- if not ns.is_first %}
{{- '<call>' + tool['type'] + '<sep>' + tool['function']['name'] + '\\n' + tool['function']['arguments'] }}
{%- set ns.is_first = true -%}{%- endif %}{%- endfor %}{%- endif %}
{%- if message['role'] == 'assistant' %}{% set content = message['content'] %}
{%- if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}
{{- '<Assistant>' + content + eos_token }}{%- endif %}{%- endfor -%}
{% if add_generation_prompt and not ns.is_tool %}{{ '<Assistant>' }}{% endif %}""",
    "tools and dates": """{{- bos_token }}{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not tools_in_user_message is defined %}{%- set tools_in_user_message = true %}{%- endif %}
{%- if not date_string is defined %}
{%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
{%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}
{%- set messages = messages[1:] %}{%- else %}{%- set system_message = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}{{- "Today Date: " + date_string + "\n\n" }}
{%- if tools is not none and not tools_in_user_message %}{%- for t in tools %}{{- t | tojson(indent=4) }}
{{- "\n\n" }}{%- endfor %}{%- endif %}{{- system_message }}
{%- for message in messages %}
{%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- elif 'tool_calls' in message %}{%- if not message.tool_calls|length == 1 %}
{{- raise_exception("This model only supports single tool-calls at once!") }}{%- endif %}
{%- for name, value in message.tool_calls[0].function.arguments | items %}{{- name + '="' + value + '"' }}
{%- if not loop.last %}{{- ", " }}{%- endif %}{%- endfor %}
{%- elif message.content is mapping or message.content is iterable %}{{- message.content | tojson }}{%- endif %}
{%- endfor %}{{ {'a': [1, {'b': 'ü'}], 'c': {}} | tojson(indent=4) }}{{ [1, 2]|tojson(separators=(',', ':')) }}""",
    "turns that alternate": """{%- if messages[0]["role"] == "system" %}
{%- set system_message = messages[0]["content"] %}
{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}{%- set ns.index = 0 %}
{%- for message in loop_messages %}{%- if not (message.role == "tool" or (message.tool_calls is defined)) %}
{%- if (message["role"] == "user") != (ns.index % 2 == 0) %}{{- raise_exception("roles must alternate") }}{%- endif %}
{%- set ns.index = ns.index + 1 %}{%- endif %}{%- endfor %}{{- bos_token }}
{%- for message in loop_messages %}{%- if message["role"] == "user" %}
{%- if loop.last and system_message is defined %}
{{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
{%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
{%- if message == user_messages[-1] %}{{ '!' }}{% endif %}
{%- elif message["role"] == "assistant" %}{{- " " + message["content"]|trim + eos_token}}
{%- else %}{{- raise_exception("Only user and assistant roles are supported") }}{%- endif %}{%- endfor %}""",
    "turns from the last": """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}
{%- if ns.multi_step_tool and message.role == "user" and message.content is string and not
(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
{%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}
{%- for message in messages %}{%- if message.role == "assistant" %}
{%- set reasoning = '' %}{%- if '</think>' in message.content %}
{%- set reasoning = message.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}{%- endif %}
{%- if loop.last or loop.index0 > ns.last_query_index %}{{- reasoning.strip('\n') }}{%- endif %}{%- endif %}
{{- '<start_of_turn>' ~ ('model' if message.role == 'assistant' else message['role']) ~ '\n'
    ~ message['content'] | trim ~ '<end_of_turn>\n' }}{%- endfor %}
{%- for tool in [] %}{{- tool | tojson }}{%- endfor %}""",
}


def talk_of(count: int, words: int = 20) -> list[dict[str, Any]]:
    roles = ["system", *(["user", "assistant"] * count)]
    text = "some words of it\n</think> " * words
    return [{"role": role, "content": f"{text}{number}"} for number, role in enumerate(roles[:count])]


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_what_is_counted_is_written_as_jinja_writes_it(name: str, count: int) -> None:
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    plain.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    values: dict[str, Any] = {"messages": talk_of(count), "bos_token": chat.BEGIN, "eos_token": chat.MARK}
    expected = plain.from_string(HONEST[name]).render(**values, add_generation_prompt=True, tools=None)
    assert chat.render(talk_of(count), HONEST[name], add_generation_prompt=True) == expected


@pytest.mark.parametrize("name", HONEST)
def test_a_thousand_messages_take_a_small_part_of_what_they_may(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is asked for by all renderings: one for each answer, of half of the messages on average."""
    talk = talk_of(1000)
    characters = sum(len(message["content"]) for message in talk)
    share = bounded.allowance(talk, characters) // 1000
    monkeypatch.setattr(steps, "allowance", lambda messages, characters: share)
    assert len(chat.render(talk, HONEST[name])) > 80_000


def test_one_message_of_megabytes(saved: SavedTokenizer) -> None:
    talk = [{"role": "user", "content": "words and\nlines " * 500_000}]
    for template in HONEST.values():
        assert len(chat.render(talk, template)) > 8_000_000


def test_a_loop_may_be_left() -> None:
    """As transformers' templates may, which have the extension too."""
    template = "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.role }} {% endfor %}"
    assert chat.render(talk_of(5), template) == "system user "


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(UserError, match="the chat template cannot write this conversation") as caught:
        chat.render(HELLO, "{{ '\\ud800' }}")
    assert "surrogates not allowed" in str(caught.value)
    with pytest.raises(UserError, match="message 1 is no text"):
        chat.render([{"role": "user", "content": "a\udced"}], chat.TEMPLATES["solar"])


def test_no_template_spells_what_counts() -> None:
    for name in bounded.compiled("").environment.filters:
        if name.startswith("lmgraft"):
            with pytest.raises(jinja2.TemplateSyntaxError):
                bounded.compiled(f"{{{{ 1|{name} }}}}")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))
