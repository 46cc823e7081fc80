"""The suite of teachers sees what is wrong, and says so by the right check; its endpoint answers as it says."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import pytest
from lmgraft.testing import Nonconforming, TeacherSuite
from lmgraft.testing.endpoint import Endpoint, answer, no_network
from third_party import Distribution, component, module

ASKING = """\
import hashlib
import json
import os
from urllib.request import Request, urlopen

from lmgraft.errors import Problem, UserError


class Asking:
    def __init__(self, config):
        self.url = config.url

    def ask(self, requests, record):
        known = {}
        if record.exists():
            known = dict(json.loads(line) for line in record.read_text().splitlines())
        found = []
        for number, messages in enumerate(requests):
            key = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()
            if key not in known:
                known[key] = self.fetch(messages)
                with record.open("a") as file:
                    file.write(json.dumps([key, known[key]]) + "\\n")
            found.append(known[key])
        return found

    def fetch(self, messages):
        headers = {"Authorization": "Bearer hush", "Content-Type": "application/json"}
        body = json.dumps({"model": "m", "messages": messages}).encode()
        try:
            with urlopen(Request(self.url + "/chat/completions", body, headers), timeout=5) as response:
                return json.load(response)["choices"][0]["message"]["content"]
        except OSError as error:
            raise UserError(Problem("no answer", str(error), "ask again")) from error
"""
ORDER, REPEAT = "test_one_answer_each_in_order", "test_repeated_from_the_record"
OTHER, ONLY, KEPT = (
    "test_another_request_is_no_old_one",
    "test_only_the_record_is_written",
    "test_answers_before_a_failure_are_kept",
)
RAISE = 'raise UserError(Problem("no answer", str(error), "ask again")) from error'
DIGEST = "json.dumps(messages, sort_keys=True)"

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    ("return found", "return sorted(found)", ORDER, "not its own"),
    ("return found", "return found[:-1]", ORDER, "8 answers to 9"),
    ("return found", "return dict(enumerate(found))", ORDER, "no list"),
    (DIGEST, "str(number)", REPEAT, "answers otherwise"),
    ('with record.open("a")', 'with record.with_name("other").open("a")', REPEAT, "cannot answer from its record"),
    (DIGEST, "messages[-1]['content']", OTHER, "earlier turn"),
    (DIGEST, "''.join(message['content'] for message in messages)", OTHER, "role"),
    (RAISE, "raise", OTHER, "reaches nobody"),
    ("return found", "(record.parent / 'cache').write_text('x'); return found", ONLY, "cache"),
    ("[key, known[key]]", "[key, known[key], 'Bearer hush'][:2] + ['hush']", ONLY, "its key into the record"),
    ("            if key not in known:", "            if messages[0]['content'] == 'the kit refuses this question':\n"
     "                record.unlink()\n            if key not in known:", KEPT, "asks again for 3 answers"),
    (RAISE, "return ''", KEPT, "for an answer"),
]  # fmt: skip


@pytest.fixture
def suite(site):
    made = []

    def install(source: str) -> TeacherSuite:
        light = module("teacher", component("asking", "asking_part.part:Asking", "Where"),
                       before="@dataclass\nclass Where(ComponentConfig):\n    url: str = ''\n")  # fmt: skip
        files = {"asking_part/__init__.py": "", "asking_part/plugin.py": light, "asking_part/part.py": source}
        site.install(Distribution("asking-part", files, {"teacher": {"asking": "asking_part.plugin"}}))
        prepare = {"component": "asking", "prepare": lambda self: {"url": self.serve()}}
        made.append(type("TestAsking", (TeacherSuite,), prepare)())
        made[-1].setup_method()
        return made[-1]

    yield install
    for one in made:
        one.teardown_method()


@pytest.mark.parametrize(
    ("right", "wrong", "check", "word"), WRONG, ids=[f"{check}-{word}" for *_, check, word in WRONG]
)
def test_a_wrong_teacher_is_seen(suite, right, wrong, check, word):
    assert ASKING.count(right) == 1
    with pytest.raises(Nonconforming, match=word):
        getattr(suite(ASKING.replace(right, wrong)), check)()


@pytest.mark.parametrize("check", [ORDER, REPEAT, OTHER, ONLY, KEPT, "test_equal_builds", "test_no_stray_writes"])
def test_a_right_one_passes(suite, check):
    getattr(suite(ASKING), check)()


def test_a_teacher_without_an_endpoint_is_told_of_the_kits(suite):
    one = suite(ASKING)
    type(one).prepare = lambda self: {"url": "http://127.0.0.1:9/v1"}
    with pytest.raises(Nonconforming, match=r"self\.serve\(\)"):
        getattr(one, ORDER)()


def test_the_endpoint_answers_in_openais_form_until_it_is_closed():
    endpoint, messages = Endpoint(), [{"role": "user", "content": "caf\u00e9"}]
    request = Request(f"{endpoint.url}/chat/completions", json.dumps({"model": "m", "messages": messages}).encode())
    with urlopen(request, timeout=5) as response:
        found = json.load(response)
    assert found["object"] == "chat.completion"
    assert found["choices"][0]["message"] == {"role": "assistant", "content": answer(messages)}
    assert [sent.messages for sent in endpoint.asked] == [messages]
    with no_network(), pytest.raises(OSError, match="taken the network away"):
        urlopen(request, timeout=5)
    endpoint.close()
    endpoint.close()
    with pytest.raises(OSError, match="refused"):
        urlopen(request, timeout=5)
