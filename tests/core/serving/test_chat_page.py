"""The chat page in a real browser, headless: typed messages, streamed answers, nothing that acts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_model import Inside, inside
from writing_model import write_model

sync_api = pytest.importorskip("playwright.sync_api")
httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

KEY = "page-key-0123456789"
#: Notes how long the answer was after each change.
WATCH = """() => {
  window.lengths = new Set();
  const note = () => window.lengths.add(document.querySelector(".answer")?.textContent.length);
  new MutationObserver(note).observe(document.getElementById("log"), { subtree: true, childList: true });
}"""
SCRIPT = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "<i>tiny<", context=8192)


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Inside]:
    with inside(model) as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # A container's root has no sandbox of its own, and a small /dev/shm.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page whose console is to stay empty; ``page.said`` collects what is not, ``page.asked`` every request."""
    page = browser.new_page()
    page.set_default_timeout(15_000)
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    page.close()


def wait_for_end(page: Any) -> None:
    sync_api.expect(page.locator("#send")).to_be_visible()
    sync_api.expect(page.locator(".under-way")).to_have_count(0)


def test_a_message_is_typed_and_its_answer_streamed(page: Any, served: Inside, model: Path) -> None:
    page.goto(served.url)
    assert page.locator("h1").inner_text() == model.name
    page.evaluate(WATCH)
    page.locator("summary").click()
    page.locator("#temperature").fill("0")
    page.locator("#tokens").fill("120")
    page.keyboard.press("Escape")
    page.locator("#text").focus()
    page.keyboard.type("What is a list?")
    page.keyboard.press("Enter")
    wait_for_end(page)
    assert page.evaluate("window.lengths.size") > 3, "the answer came at once"
    ask = {"model": model.name, "messages": [{"role": "user", "content": "What is a list?"}]}
    done = httpx.post(
        served.url + "/v1/chat/completions", json={**ask, "temperature": 0, "max_tokens": 120}, timeout=30
    )
    answer = done.json()["choices"][0]["message"]["content"]
    assert page.locator(".answer").text_content() == answer
    # The second turn is asked with the first one before it.
    page.locator("#tokens").fill("5")
    page.locator("#text").focus()
    with page.expect_request("**/v1/chat/completions") as asked:
        page.keyboard.type("And")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("a tuple?")
        page.keyboard.press("Enter")
    messages = asked.value.post_data_json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert (messages[1]["content"], messages[2]["content"]) == (answer, "And\na tuple?")
    wait_for_end(page)
    assert page.said == []
    assert {re.match(r"\w+://[^/]+", url)[0] for url in page.asked} == {served.url}  # type: ignore[index]


def test_what_is_said_stays_text(page: Any, served: Inside) -> None:
    page.goto(served.url)
    title = page.title()
    page.locator("summary").click()
    page.locator("#tokens").fill("3")
    page.locator("#text").fill(SCRIPT)
    page.locator("#send").click()
    wait_for_end(page)
    assert page.locator(".user").text_content() == SCRIPT
    assert page.locator("#log img, #log script").count() == 0
    assert (page.title(), page.said) == (title, [])


def test_an_answer_that_holds_markup_stays_text(page: Any, served: Inside) -> None:
    piece = json.dumps({"choices": [{"index": 0, "delta": {"content": SCRIPT}, "finish_reason": None}]})
    body = f"data: {piece}\n\ndata: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    page.goto(served.url)
    page.locator("#text").fill("a")
    page.keyboard.press("Enter")
    wait_for_end(page)
    assert page.locator(".answer").text_content() == SCRIPT
    assert page.locator("#log img, #log script").count() == 0
    assert "taken" not in page.title()


def test_an_answer_is_stopped_and_a_conversation_begun_anew(page: Any, served: Inside) -> None:
    page.goto(served.url)
    page.locator("#text").fill("a")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator(".answer")).not_to_be_empty()
    page.keyboard.press("Escape")
    wait_for_end(page)
    sync_api.expect(page.locator("#note")).to_have_text("Stopped.")
    served.until("went away")
    kept = page.locator(".answer").text_content()
    assert kept
    page.locator("#text").fill("b")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator(".answer").nth(1)).not_to_be_empty()
    page.locator("#reset").click()
    sync_api.expect(page.locator(".turn")).to_have_count(0)
    with page.expect_request("**/v1/chat/completions") as asked:
        page.locator("#text").fill("c")
        page.keyboard.press("Enter")
    assert asked.value.post_data_json["messages"] == [{"role": "user", "content": "c"}]
    assert page.said == []


def test_with_a_key(page: Any, model: Path) -> None:
    with inside(model, key=KEY) as one:
        page.goto(one.url)
        page.locator("#text").fill("a")
        page.keyboard.press("Enter")
        sync_api.expect(page.locator("#note")).to_contain_text("API key")
        assert page.locator("#text").input_value() == "a", "the message is not lost"
        page.locator("#key").fill(KEY)
        page.locator("#tokens").fill("4")
        page.locator("#send").click()
        wait_for_end(page)
        assert len(page.locator(".answer").text_content()) == 4
        assert not [line for line in one.lines if KEY in line]


def test_the_policy_lets_nothing_else_run(page: Any, served: Inside) -> None:
    head = httpx.get(served.url).headers
    assert head["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in head["content-security-policy"]
    page.goto(served.url)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=http://127.0.0.1:9/x>')")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'document.title=1'}))")
    page.wait_for_timeout(100)
    assert page.title() != "1"
    assert any("Content Security Policy" in said for said in page.said)
