"""``lmgraft serve`` asked by the official client of OpenAI, and by clients that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from lmgraft.artifacts.tokenizer import set_chat_template
from lmgraft.cli import main
from lmgraft.cli.generate import generate
from served_model import Inside, inside, serving
from writing_model import write_model

openai = pytest.importorskip("openai")
httpx = pytest.importorskip("httpx")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

KEY = "a-key-of-the-test-0123456789"
ASK: Any = [{"role": "user", "content": "What is a list?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny", context=512, end=1.0)


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Inside]:
    with inside(model, key=KEY) as one:
        yield one


@pytest.fixture(scope="module")
def client(served: Inside) -> Iterator[Any]:
    with openai.OpenAI(base_url=served.url + "/v1", api_key=KEY, max_retries=0, timeout=30) as one:
        yield one


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes to the end of a long context: tens of seconds."""
    return write_model(tmp_path_factory.mktemp("models") / "endless", context=16384)


def test_models(client: Any) -> None:
    assert [one.id for one in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "lmgraft"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def test_a_completion_and_its_pieces(client: Any) -> None:
    options = {"model": "tiny", "prompt": "Hello", "temperature": 0, "max_tokens": 40}
    whole = client.completions.create(**options)
    assert len(whole.choices[0].text) == whole.usage.completion_tokens == 40
    assert (whole.choices[0].finish_reason, whole.usage.prompt_tokens) == ("length", 6)
    pieces = list(client.completions.create(**options, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert len(pieces) > 5
    assert pieces[-1].choices[0].finish_reason == "length"
    assert client.completions.create(**{**options, "max_tokens": None}).usage.completion_tokens == 16


def test_it_says_what_generate_says(client: Any, model: Path) -> None:
    options = ["--no-chat", "--temperature", "0", "--max-new-tokens", "40"]
    said = CliRunner().invoke(generate, [str(model), "Hello", *options], standalone_mode=False).stdout
    whole = client.completions.create(model="tiny", prompt="Hello", temperature=0, max_tokens=40)
    assert said == "Hello" + whole.choices[0].text + "\n"


def test_a_chat_and_its_pieces(client: Any) -> None:
    options = {"model": "tiny", "messages": ASK, "seed": 5, "max_completion_tokens": 200}
    whole = client.chat.completions.create(**options)
    answer = whole.choices[0]
    assert answer.message.role == "assistant"
    assert answer.message.content
    pieces = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    told = [piece.choices[0] for piece in pieces if piece.choices]
    assert "".join(one.delta.content or "" for one in told) == answer.message.content
    assert (told[0].delta.role, told[-1].finish_reason) == ("assistant", answer.finish_reason)
    assert pieces[-1].usage == whole.usage
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_what_a_template_refuses_is_a_bad_request(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="tool") as caught:
        client.chat.completions.create(model="tiny", messages=[{"role": "tool", "content": "x", "tool_call_id": "1"}])
    assert caught.value.param == "messages"


def test_content_in_parts_and_a_developers_message(client: Any) -> None:
    options = {"model": "tiny", "temperature": 0, "max_tokens": 20}
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "a list?"}]
    plain = client.chat.completions.create(messages=[{"role": "system", "content": "Brief."}, *ASK], **options)
    other = [{"role": "developer", "content": "Brief."}, {"role": "user", "content": parts}]
    assert client.chat.completions.create(messages=other, **options).choices[0] == plain.choices[0]
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    with pytest.raises(openai.BadRequestError, match="other types"):
        client.chat.completions.create(messages=image, **options)


def test_stop_strings_and_the_end_token(client: Any) -> None:
    options = {"model": "tiny", "prompt": "Hello", "temperature": 0, "max_tokens": 100}
    text = client.completions.create(**options).choices[0].text
    stop = text[10:13]
    cut = client.completions.create(**options, stop=["\n\n", stop]).choices[0]
    assert (cut.text, cut.finish_reason) == (text[: text.index(stop)], "stop")
    streamed = list(client.completions.create(**options, stop=stop, stream=True))
    assert "".join(piece.choices[0].text for piece in streamed) == cut.text
    ended = [client.completions.create(model="tiny", prompt="a", seed=s, max_tokens=400).choices[0] for s in range(8)]
    assert "stop" in {one.finish_reason for one in ended}, "the end token came in none of eight"
    assert all("<|endoftext|>" not in one.text for one in ended)


def test_several_prompts_and_several_choices(client: Any) -> None:
    one = {p: client.completions.create(model="tiny", prompt=p, temperature=0).choices[0].text for p in ("Hi", "Yo")}
    both = client.completions.create(model="tiny", prompt=["Hi", "Yo"], temperature=0, n=2)
    assert [choice.text for choice in both.choices] == [one["Hi"]] * 2 + [one["Yo"]] * 2
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    drawn = client.completions.create(model="tiny", prompt="Hi", n=3, seed=1)
    assert len({choice.text for choice in drawn.choices}) == 3
    again = client.completions.create(model="tiny", prompt="Hi", seed=1)
    assert again.choices[0].text == drawn.choices[0].text
    ids = client.completions.create(model="tiny", prompt=[256, 3, 4], temperature=0)
    assert ids.usage.prompt_tokens == 3
    several = client.completions.create(model="tiny", prompt=[[256, 3, 4], [256, 9]], temperature=0)
    assert several.choices[0].text == ids.choices[0].text


@pytest.mark.parametrize("drawn", [{"temperature": 0}, {"seed": 7, "top_p": 0.9}], ids=["greedy", "seeded"])
def test_sixteen_at_once_are_answered_as_one_by_one(client: Any, drawn: dict[str, Any], served: Inside) -> None:
    def ask(number: int) -> str:
        messages: Any = [{"role": "user", "content": f"{number} " * (1 + number % 5)}]
        options = {"model": "tiny", "max_tokens": 40 + number, **drawn}
        return client.chat.completions.create(messages=messages, **options).choices[0].message.content

    alone = [ask(number) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(16)))
    assert together == alone
    assert len(set(alone)) > 10


def test_requests_join_while_others_run(endless: Path) -> None:
    async def race(url: str) -> list[str]:
        async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
            long = await client.completions.create(model="endless", prompt="a", max_tokens=16000, stream=True)
            await anext(aiter(long))
            order = []
            for number in range(3):
                await client.completions.create(model="endless", prompt=f"{number}", max_tokens=5)
                order.append(f"short {number}")
            await anext(aiter(long))  # the long one goes on beside them
            await long.close()
            return order

    with inside(endless) as one:
        assert len(asyncio.run(asyncio.wait_for(race(one.url), 30))) == 3


def test_a_client_that_goes_away_frees_its_place(endless: Path) -> None:
    with inside(endless, at_once=1, queue=1) as one:
        ask = {"model": "endless", "prompt": "a", "max_tokens": 16000}
        client = openai.OpenAI(base_url=one.url + "/v1", api_key="none", max_retries=0, timeout=30)
        with client.completions.create(**ask, stream=True) as stream:
            next(iter(stream))
            assert httpx.get(one.url + "/health").json()["running"] == 1
        one.until("went away")
        # And one that waits for a whole answer.
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.5).completions.create(**ask)
        deadline = time.monotonic() + 10
        while httpx.get(one.url + "/health").json()["running"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert client.completions.create(**{**ask, "max_tokens": 3}).usage.completion_tokens == 3


def test_a_full_queue_and_the_time_of_a_request(endless: Path) -> None:
    with inside(endless, at_once=1, queue=1, seconds=1) as one:
        ask = {"model": "endless", "prompt": "a", "max_tokens": 16000}
        client = openai.OpenAI(base_url=one.url + "/v1", api_key="none", max_retries=0, timeout=30)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(client.completions.create, **ask)
            while httpx.get(one.url + "/health").json()["running"] == 0:
                time.sleep(0.02)
            second = pool.submit(client.completions.create, **ask)
            while httpx.get(one.url + "/health").json()["waiting"] == 0:
                time.sleep(0.02)
            with pytest.raises(openai.RateLimitError) as caught:
                client.completions.create(**ask)
            assert caught.value.response.headers["retry-after"]
            done = first.result()
            assert done.choices[0].finish_reason == "length"
            assert 0 < done.usage.completion_tokens < 16000
            late = second.exception()  # its time began when it came: it is too late, or has a moment left
            assert late is None or getattr(late, "status_code", None) == 503


def test_a_reader_that_does_not_read_stops_nobody(endless: Path) -> None:
    with inside(endless) as one:
        host, port = one.url.removeprefix("http://").split(":")
        body = json.dumps({"model": "endless", "prompt": "a", "max_tokens": 16000, "stream": True}).encode()
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((host, int(port)))
            head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            client = openai.OpenAI(base_url=one.url + "/v1", api_key="none", max_retries=0, timeout=30)
            for _ in range(3):
                assert client.completions.create(model="endless", prompt="b").usage.completion_tokens == 16


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_prompt_that_is_too_long(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="512 tokens") as caught:
        client.completions.create(model="tiny", prompt="a" * 600)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a" * 600}])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


def test_another_model(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="'tiny'") as caught:
        client.completions.create(model="gpt-5", prompt="a")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON"), (b"{", "JSON"), (b"[1]", "object"), (b'{"model": "\\ud800"}', "JSON"), (b"\xff", "JSON"),
        (b"[" * 50000, "JSON"), (b"{}", "model"), (b'{"model": "tiny"}', "messages"),
    ],
)  # fmt: skip
def test_a_malformed_body(served: Inside, body: bytes, said: str) -> None:
    head = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    done = httpx.post(served.url + "/v1/chat/completions", content=body, headers=head)
    assert done.status_code == 400
    assert said in done.json()["error"]["message"]
    assert done.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": 3}, {"temperature": "hot"}, {"temperature": True}, {"top_p": 0}, {"n": 0}, {"n": 1000},
        {"n": 1.5}, {"max_tokens": 0}, {"max_tokens": "9"}, {"stop": ""}, {"stop": ["a", 1]}, {"stop": ["a"] * 17},
        {"seed": 0.5}, {"stream": "yes"}, {"stream_options": 1}, {"top_k": -1}, {"repetition_penalty": 0},
        {"logprobs": True}, {"top_logprobs": 2}, {"tools": [{}]}, {"response_format": {"type": "json_object"}},
        {"frequency_penalty": 1}, {"logit_bias": {"5": 1}}, {"max_tokenss": 5}, {"messages": []}, {"messages": "a"},
        {"messages": [{"role": "user"}]}, {"messages": [{"role": "king", "content": "a"}]}, {"messages": [1]},
        {"messages": [{"role": "user", "content": "\ufdd0"}]}, {"messages": ASK * 1001},
    ],
    ids=lambda bad: str(bad)[:60],
)  # fmt: skip
def test_a_parameter_that_cannot_be_is_named(client: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body={"model": "tiny", "messages": ASK, **bad}, cast_to=object)
    name = next(iter(bad))
    assert name in str(caught.value.param)
    assert name in caught.value.body["message"] or name == "messages"


@pytest.mark.parametrize("prompt", [[], [1, "a"], [-1], [258], [[]], [[1], "a"], 5, ["a"] * 81, [[1]] * 81], ids=str)
def test_a_prompt_that_is_none(client: Any, prompt: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/completions", body={"model": "tiny", "prompt": prompt}, cast_to=object)
    assert caught.value.param == "prompt"


def test_an_id_that_the_tokenizer_alone_has(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "more")
    file = tmp_path / "more/tokenizer.json"
    told = json.loads(file.read_text())
    told["added_tokens"].append({**told["added_tokens"][0], "id": 258, "content": "<more>"})
    file.write_text(json.dumps(told))
    with inside(tmp_path / "more") as one:
        for prompt, status in ([65, 258], 400), ([65, 257], 200), ("<more>", 200):
            body = {"model": "more", "prompt": prompt, "max_tokens": 2}
            assert httpx.post(one.url + "/v1/completions", json=body, timeout=30).status_code == status, prompt


def test_settings_next_to_nothing_fail_nobody(client: Any) -> None:
    for settings in (
        {"top_p": 1e-50},
        {"temperature": 1e-50, "top_p": 0.5},
        {"extra_body": {"repetition_penalty": 1e-300}},
    ):
        said = client.completions.create(model="tiny", prompt="Hello", max_tokens=4, **settings)
        assert said.choices[0].finish_reason in ("length", "stop"), settings


def test_a_model_without_a_template_tells_no_place(tmp_path: Path) -> None:
    with inside(write_model(tmp_path / "plain", template=None)) as one:
        body = {"model": "plain", "messages": ASK}
        told = httpx.post(one.url + "/v1/chat/completions", json=body, timeout=30)
    assert (told.status_code, "no chat template" in told.text, str(tmp_path) in told.text) == (400, True, False)


def test_a_template_without_an_end_holds_nobody_up(tmp_path: Path) -> None:
    template = "{{ bos_token }}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    folder = write_model(tmp_path / "endless")
    set_chat_template(folder, template)
    with inside(folder) as one:
        asked = time.monotonic()
        told = httpx.post(one.url + "/v1/chat/completions", json={"model": "endless", "messages": ASK}, timeout=60)
        assert time.monotonic() - asked < 30
        body = {"model": "endless", "prompt": "Hello", "max_tokens": 4}
        assert httpx.post(one.url + "/v1/completions", json=body, timeout=30).status_code == 200
    message = told.json()["error"]["message"]
    assert (told.status_code, told.json()["error"]["param"]) == (400, "messages")
    assert "the chat template cannot write this conversation: it goes on for longer" in message
    assert template[:40] in message


def test_a_folder_whose_name_is_no_text_has_a_name_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "plain").rename(tmp_path / os.fsdecode(b"mod\xe8le"))
    monkeypatch.chdir(folder)
    with serving(tmp_path, Path()) as one:
        told = httpx.get(one.url + "/v1/models", timeout=30)
        (name,) = (each["id"] for each in json.loads(told.content.decode())["data"])
        body = {"model": name, "messages": ASK, "max_tokens": 4}
        answered = httpx.post(one.url + "/v1/chat/completions", json=body, timeout=30)
        page = httpx.get(one.url, timeout=30)
        itself = httpx.get(f"{one.url}/v1/models/{name}", timeout=30)
    assert (told.status_code, name) == (200, "mod\ufffdle")
    assert (answered.status_code, answered.json()["model"]) == (200, name)
    assert (page.status_code, itself.status_code) == (200, 200)


def test_what_asks_for_nothing_is_passed_over(client: Any) -> None:
    harmless = {"user": "me", "logprobs": False, "frequency_penalty": 0, "tools": [], "n": None, "metadata": {"a": "b"}}
    more = {"top_k": 3, "repetition_penalty": 1.2}
    client.post("/chat/completions", body={"model": "tiny", "messages": ASK, **harmless, **more}, cast_to=object)


def test_a_body_that_is_too_large(client: Any) -> None:
    with pytest.raises(openai.APIStatusError, match="65536 bytes") as caught:
        client.completions.create(model="tiny", prompt="a" * 300_000)
    assert caught.value.status_code == 413


def test_a_wrong_key_and_none(served: Inside) -> None:
    for key in ("wrong", KEY + "x", KEY[:-1]):
        with (
            openai.OpenAI(base_url=served.url + "/v1", api_key=key, max_retries=0) as wrong,
            pytest.raises(openai.AuthenticationError) as caught,
        ):
            wrong.models.list()
        assert caught.value.code == "invalid_api_key"
    assert httpx.get(served.url + "/v1/models").status_code == 401
    assert httpx.get(served.url + "/health").status_code == 200
    served.until("GET /v1/models 401")
    assert not [line for line in served.lines if "wrong" in line or KEY in line]


def test_pages_of_other_sites_and_names_of_others(served: Inside, model: Path) -> None:
    head = {"authorization": f"Bearer {KEY}"}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://[", "[" + served.url):
        assert httpx.get(served.url + "/v1/models", headers={**head, "origin": origin}).status_code == 403
    assert httpx.get(served.url + "/v1/models", headers={**head, "origin": served.url}).status_code == 200
    assert "access-control-allow-origin" not in httpx.get(served.url + "/v1/models", headers=head).headers
    assert httpx.options(served.url + "/v1/models", headers=head).status_code == 405
    text = httpx.post(served.url + "/v1/completions", headers={**head, "content-type": "text/plain"}, content="{}")
    assert text.status_code == 415
    with inside(model) as open_one:
        port = open_one.url.rpartition(":")[2]
        assert httpx.get(open_one.url + "/v1/models").status_code == 200
        assert httpx.get(open_one.url + "/v1/models", headers={"host": f"localhost:{port}"}).status_code == 200
        rebound = httpx.get(open_one.url + "/v1/models", headers={"host": f"evil.example:{port}"})
        assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "unknown_host")


def test_routes_that_are_none(served: Inside) -> None:
    head = {"authorization": f"Bearer {KEY}"}
    missing = httpx.get(served.url + "/v1/embeddings", headers=head)
    assert (missing.status_code, "Invalid URL" in missing.json()["error"]["message"]) == (404, True)
    assert httpx.get(served.url + "/v1/completions", headers=head).status_code == 405


def test_a_connection_that_breaks_off(served: Inside, client: Any) -> None:
    address = ("127.0.0.1", int(served.url.rpartition(":")[2]))
    head = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {KEY}\r\nContent-Length: 500\r\n\r\n"
    with socket.create_connection(address) as half:
        half.sendall(head.encode() + b'{"model":')
    served.until(r"POST /v1/completions 499 .*went away")
    with socket.create_connection(address) as noise:
        noise.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
        assert noise.recv(100).startswith(b"HTTP/1.1 400")
    assert client.models.list().data


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_signal_lets_what_is_under_way_end(tmp_path: Path) -> None:
    write_model(tmp_path / "0123abcd", context=2048, template=None)
    slow = tmp_path / "slow"  # as a run's stages are
    slow.symlink_to("0123abcd")
    head = {"authorization": f"Bearer {KEY}"}
    with serving(tmp_path, slow, "--host", "0.0.0.0", LMGRAFT_API_KEY=KEY) as one:
        url = one.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(url + "/v1/models").status_code == 401
        assert httpx.get(url + "/v1/models", headers={**head, "host": "any.example"}).status_code == 200
        done = httpx.post(url + "/v1/chat/completions", headers=head, json={"model": "slow", "messages": ASK})
        assert (done.status_code, "no chat template" in done.json()["error"]["message"]) == (400, True)
        client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0, timeout=60)
        stream = client.completions.create(model="slow", prompt="a", temperature=0, max_tokens=600, stream=True)
        pieces = iter(stream)
        text = next(pieces).choices[0].text
        one.process.send_signal(signal.SIGTERM)
        text += "".join(piece.choices[0].text for piece in pieces)
        assert len(text) == 600
        assert one.process.wait(30) == 0
        assert [line.split()[2:5] for line in one.log.splitlines()][-1] == ["POST", "/v1/completions", "200"]
        assert KEY not in one.log


def test_what_does_not_end_in_time_is_cut_off(endless: Path, tmp_path: Path) -> None:
    with serving(tmp_path, endless, "--drain", "1") as one:
        client = openai.OpenAI(base_url=one.url + "/v1", api_key="none", max_retries=0, timeout=60)
        stream = client.completions.create(model="endless", prompt="a", max_tokens=16000, stream=True)
        next(iter(stream))
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(30) == 75
        assert "1 of the requests under way were cut off" in one.log
        assert "Traceback" not in one.log


def test_bad_input_is_three_lines(
    model: Path, served: Inside, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["serve", *arguments])
        said = capsys.readouterr()
        assert (caught.value.code, said.out, len(said.err.splitlines())) == (2, "", 3)
        return said.err

    port = served.url.rpartition(":")[2]
    assert f"--port {port} is in use" in refused(str(model), "--port", port)
    assert "holds no model" in refused(str(tmp_path))
    assert "no address" in refused(str(model), "--host", "no.such.host.invalid")
    assert "there is no key" in refused(str(model), "--host", "0.0.0.0")
    assert "cannot be read" in refused(str(model), "--api-key-file", str(tmp_path / "none"))
    assert "no chat template 'nope'" in refused(str(model), "--template", "nope")
    assert "--precision int9" in refused(str(model), "--precision", "int9")
    assert "--at-once 0" in refused(str(model), "--at-once", "0")
    monkeypatch.setenv("LMGRAFT_API_KEY", " ")
    assert "holds no key" in refused(str(model))
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'lmgraft[serve]'" in refused(str(model))
