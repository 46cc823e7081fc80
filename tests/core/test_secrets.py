"""What counts as a secret in a config, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from lmgraft.secrets import MASK, known, masked, override


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "PASSWD", "api_key", "apikey", "openai-api-key", "aws_secret_access_key",
     "aws_access_key_id", "secret", "client_secret", "token", "hf_token", "HUB_TOKEN", "credentials", "private_key"],
)  # fmt: skip
def test_a_telling_name_hides_its_value(name: str) -> None:
    assert masked({"deep": [{name: "abc"}]}, ()) == {"deep": [{name: MASK}]}
    assert masked({name: ["abc", {"x": "d"}]}, ()) == {name: MASK}
    assert masked({name: None}, ()) == {name: None}


@pytest.mark.parametrize(
    "pair",
    [("end_token", "<|endoftext|>"), ("pad_token", "<pad>"), ("tokens", "tokens"), ("tokenizer", "bpe"),
     ("validation_tokens", 65536), ("max_new_tokens", 4), ("text_key", "body"), ("key", "id"), ("monkey", "x"),
     ("keep_checkpoints", 2), ("path", "a/b@c"), ("address", "https://example.org/a@b")],
)  # fmt: skip
def test_other_names_hide_nothing(pair: tuple[str, Any]) -> None:
    assert masked(dict([pair]), ()) == dict([pair])


def test_what_the_environment_holds_is_hidden_anywhere() -> None:
    environment = {"HF_TOKEN": "hf_123456", "MY_SECRET": "1", "PATH": "/usr/bin", "WANDB_API_KEY": "f" * 40}
    assert known(environment) == {"hf_123456", "f" * 40}
    config = {"note": "with hf_123456 in it", "size": 1, "path": "/usr/bin"}
    assert masked(config, known(environment)) == {"note": f"with {MASK} in it", "size": 1, "path": "/usr/bin"}


def test_a_password_in_an_address_is_hidden() -> None:
    assert masked("s3://user:pass@bucket/x", ()) == f"s3://{MASK}@bucket/x"


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://h/a.gz?X-Amz-Date=1&X-Amz-Signature=ab/c&x=1", f"https://h/a.gz?X-Amz-Date=1&X-Amz-Signature={MASK}&x=1"),
        ("https://h/a?sv=1&sig=a%2Bb", f"https://h/a?sv=1&sig={MASK}"),
        ("https://h/a?X-Amz-Security-Token=t#x", f"https://h/a?X-Amz-Security-Token={MASK}#x"),
        ("https://h/a?api_key=k", f"https://h/a?api_key={MASK}"),
        ("https://h/a?page=2&design=x", "https://h/a?page=2&design=x"),
        ("why?token=x", "why?token=x"),
    ],
)  # fmt: skip
def test_the_signature_of_an_address_is_hidden(address: str, kept: str) -> None:
    assert masked({"path": [address]}, ()) == {"path": [kept]}


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("tracker.api_key=abc", f"tracker.api_key={MASK}"),
        ("+hub.token=abc", f"+hub.token={MASK}"),
        ("hub.token=${oc.env:HF_TOKEN}", "hub.token=${oc.env:HF_TOKEN}"),
        ("pretrain.steps=3", "pretrain.steps=3"),
        ("data.path=s3://me:pass@host/x", f"data.path=s3://{MASK}@host/x"),
        ("a=key-of-the-environment", f"a={MASK}"),
    ],
)
def test_overrides_are_written_down_without_secrets(line: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "key-of-the-environment")
    assert override(line) == kept
