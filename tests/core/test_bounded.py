"""Templates that work for ever or take all memory, and honest ones that do not notice that they are counted."""

from __future__ import annotations

import time
from typing import Any

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lmgraft import bounded, chat
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.errors import UserError
from lmgraft.testing.inputs import byte_tokenizer

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
#: A list of two lists, each of two lists ...: few bytes that are written out as 2**99.
DEEP = "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
MANY = "{% set b = range(99999)|list %}{% for i in range(99999) %}"
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
}
TOO_LARGE = {
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
    monkeypatch.setattr(bounded, "_FIRST", 200_000)
    monkeypatch.setattr(bounded, "_EACH", 0)
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
    monkeypatch.setattr(bounded, "allowance", lambda messages, characters: 400_000)
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
}


def talk_of(count: int, words: int = 20) -> list[dict[str, Any]]:
    roles = ["system", *(["user", "assistant"] * count)]
    text = "some words of it\n</think> " * words
    return [{"role": role, "content": f"{text}{number}"} for number, role in enumerate(roles[:count])]


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("count", [1, 2, 40])
def test_what_is_counted_is_written_as_jinja_writes_it(name: str, count: int) -> None:
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    plain.filters["tojson"] = bounded.compiled("").environment.filters["tojson"]
    values: dict[str, Any] = {"messages": talk_of(count), "bos_token": chat.BEGIN, "eos_token": chat.MARK}
    expected = plain.from_string(HONEST[name]).render(**values, add_generation_prompt=True, tools=None)
    assert chat.render(talk_of(count), HONEST[name], add_generation_prompt=True) == expected


@pytest.mark.parametrize("name", HONEST)
def test_a_thousand_messages_take_a_small_part_of_what_they_may(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is asked for by all renderings: one for each answer, of half of the messages on average."""
    talk = talk_of(1000)
    characters = sum(len(message["content"]) for message in talk)
    share = bounded.allowance(talk, characters) // 1000
    monkeypatch.setattr(bounded, "allowance", lambda messages, characters: share)
    assert len(chat.render(talk, HONEST[name])) > 80_000


def test_one_message_of_megabytes(saved: SavedTokenizer) -> None:
    talk = [{"role": "user", "content": "words and\nlines " * 500_000}]
    for template in HONEST.values():
        assert len(chat.render(talk, template)) > 8_000_000


def test_no_template_spells_what_counts() -> None:
    for name in bounded.compiled("").environment.filters:
        if name.startswith("lmgraft"):
            with pytest.raises(jinja2.TemplateSyntaxError):
                bounded.compiled(f"{{{{ 1|{name} }}}}")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))
