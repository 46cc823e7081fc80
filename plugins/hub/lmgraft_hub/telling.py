"""What the hub's libraries raise, in three lines."""

from __future__ import annotations

from collections.abc import Iterator

from lmgraft.errors import Problem

from lmgraft_hub.plugin import HubConfig

__all__ = ["is_network", "told"]

#: Modules whose errors are about the connection.
CONNECTIONS = ("httpx", "httpcore", "requests", "urllib3", "aiohttp", "socket")
#: Of huggingface_hub: there is no connection, or none is allowed.
OFFLINE = ("OfflineModeIsEnabled", "LocalEntryNotFoundError")


def told(config: HubConfig, error: BaseException) -> Problem:
    """Why a data set cannot be opened."""
    names = {type(one).__name__ for one in _chain(error)}
    said = " ".join(str(error).split())[:300] or type(error).__name__
    what = f"hub: {config.name}"
    if is_network(error):
        return _offline(config, said)
    if "GatedRepoError" in names:
        return Problem(
            f"{what} is gated", "its owners let in whom they know", "ask there for access, then: hf auth login"
        )
    if "RepositoryNotFoundError" in names:
        cause = "the hub knows no data set of that name, or it is private and there is no token for it"
        return Problem(
            f"{what} is not found", cause, "check the spelling of hub.name; for a private one: hf auth login"
        )
    if "RevisionNotFoundError" in names:
        cause = "the data set has no such branch, tag or commit"
        return Problem(f"{what} has no revision {config.revision!r}", cause, "hub.revision=main, or one of its commits")
    if "DataFilesNotFoundError" in names or "EmptyDatasetError" in names:
        return Problem(f"{what} holds no data files", said, "choose another data set")
    if "Bad split" in said or "nknown split" in said:
        return Problem(f"{what} has no split {config.split!r}", said, "set hub.split to one of these")
    if "BuilderConfig" in said or "Config name is missing" in said:
        return Problem(
            f"{what}: the configuration {config.config!r} cannot be taken", said, "set hub.config to one of these"
        )
    return Problem(
        f"{what} cannot be opened", f"{type(error).__name__}: {said}", "try another hub.revision or hub.config"
    )


def is_network(error: BaseException) -> bool:
    """Whether there was no answer: the data are what they are, and the same command may go on later."""
    for one in _chain(error):
        kind = type(one)
        if kind.__name__ in OFFLINE or isinstance(one, ConnectionError | TimeoutError):
            return True
        if kind.__module__.startswith(CONNECTIONS) and "Status" not in kind.__name__:
            return True
        status = getattr(getattr(one, "response", None), "status_code", 0)
        if status == 429 or status >= 500:
            return True
    return False


def _offline(config: HubConfig, said: str) -> Problem:
    fact = f"hub: {config.name} cannot be reached"
    remedy = (
        f"where there is a network: hf download {config.name} --repo-type dataset --revision {config.revision} "
        "--local-dir DIR; then hub.name=DIR, or the source files with path=DIR"
    )
    return Problem(fact, f"there is no network, or HF_HUB_OFFLINE is set: {said}", remedy)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        one = one.__cause__ or one.__context__
    return iter(seen)
