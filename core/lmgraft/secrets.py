"""Takes secrets out of a config before it is written down or leaves: values under telling names, passwords in
addresses, and whatever an environment variable with a telling name holds (``${oc.env:HF_TOKEN}`` puts it under any
name)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["MASK", "known", "masked", "override"]

MASK = "***"

#: Whole words only: ``tokens``, ``tokenizer`` and ``end_token`` are no secrets.
_NAME = re.compile(
    r"(^|[_\-.])(password|passwd|passphrase|secrets?|credentials?|authorization"
    r"|(api|access|account|auth|encryption|private|secret|signing|ssh)[_\-]?key([_\-]id)?|token)$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"^(end|eos|bos|pad|unk|mask|sep|cls|special|image|begin|start|stop)_token$", re.IGNORECASE)
_ADDRESS = re.compile(r"(?P<scheme>[a-zA-Z][\w+.\-]*://)[^/\s@]+@")
#: Signed addresses (S3, GCS, Azure) carry theirs in the query.
_QUERY = re.compile(r"([?&](?P<name>[^=&\s#]+)=)[^&\s#]+")
_SIGNED = re.compile(r"(^|[_\-.])(sig|signature|credential)$", re.IGNORECASE)
#: Shorter values of the environment (``SECRET=1``) would blot out half a config.
SHORTEST = 6


def known(environment: Mapping[str, str] | None = None) -> frozenset[str]:
    """The values of environment variables whose names tell of a secret."""
    environment = os.environ if environment is None else environment
    return frozenset(v for name, v in environment.items() if len(v) >= SHORTEST and telling(name))


def telling(name: str) -> bool:
    return bool(_NAME.search(name)) and not _HARMLESS.match(name)


def masked(value: Any, secrets: Iterable[str]) -> Any:
    """A copy of plain data with every secret replaced by :data:`MASK`; numbers and null stay."""
    secrets = frozenset(secrets)
    if isinstance(value, Mapping):
        return {
            str(key): MASK if telling(str(key)) and item not in (None, "") else masked(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [masked(item, secrets) for item in value]
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, MASK)
    value = _ADDRESS.sub(rf"\g<scheme>{MASK}@", value)
    return _QUERY.sub(_unsigned, value) if "://" in value else value


def _unsigned(found: re.Match[str]) -> str:
    name = found["name"]
    return f"{found[1]}{MASK}" if telling(name) or _SIGNED.search(name) else found[0]


def override(line: str) -> str:
    """``KEY=VALUE`` as it may be written down; what refers to the environment (``${oc.env:NAME}``) is no secret."""
    key, equals, value = line.partition("=")
    if equals and telling(key.lstrip("+~").rpartition(".")[2]) and not value.startswith("${"):
        return f"{key}={MASK}"
    return str(masked(line, known()))
