"""The kit against planted faults: each is found, in words that tell its author what to do; and against the same
distributions without their faults, of which it must not complain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from planted_faults import ALL, FAULTS
from third_party import Distribution, lmgraft, pip_install


@pytest.fixture(scope="session")
def planted_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them installed by pip into one folder."""
    root = tmp_path_factory.mktemp("planted")
    pip_install([distribution.wheel(root) for distribution in ALL], target=root / "site")
    return root / "site"


def check(distribution: Distribution, site: Path, cwd: Path, *, code: int) -> dict[str, dict[str, Any]]:
    """What ``lmgraft plugins check`` says in a process of its own: check -> how it ended."""
    done = lmgraft("plugins", "check", distribution.name, "--json", cwd=cwd, site=site, code=code)
    results = {result["check"]: result for result in json.loads(done.stdout)}
    assert {result["part"] for result in results.values()} == {distribution.name.replace("-", "_")}
    return results


def shown(results: dict[str, dict[str, Any]]) -> str:
    """The checks that failed, for a message."""
    failed = [result for result in results.values() if result["state"] == "failed"]
    return json.dumps(failed, indent=2, ensure_ascii=False) if failed else f"none of {', '.join(results)} failed"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_its_author_told_what_to_do(name: str, planted_site: Path, tmp_path: Path) -> None:
    fault = FAULTS[name]
    results = check(fault.planted(), planted_site, tmp_path, code=2)
    assert results[fault.check]["state"] == "failed", shown(results)
    lines = [results[fault.check][key] for key in ("fact", "cause", "remedy")]
    assert all(line and "\n" not in line for line in lines), lines
    assert len(set(lines)) == 3, lines
    assert len(lines[2].split()) > 3, f"the remedy says too little: {lines[2]}"
    said = " | ".join(lines)
    assert not [words for words in fault.says if words.casefold() not in said.casefold()], said


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_its_sound_twin_passes(name: str, planted_site: Path, tmp_path: Path) -> None:
    results = check(FAULTS[name].sound(), planted_site, tmp_path, code=0)
    # Not skipped: a check that says nothing of the twin would say nothing of the fault either.
    assert results[FAULTS[name].check]["state"] == "passed", results[FAULTS[name].check]


def test_a_fault_is_all_that_twins_differ_in() -> None:
    """Otherwise the kit might fail a distribution for another reason than the one that it was made for."""
    for name, fault in FAULTS.items():
        wrong, right = fault.planted().contents(), fault.sound().contents()
        right = {
            path.replace("_sound", ""): text.replace("_sound", "").replace("-sound", "") for path, text in right.items()
        }
        assert wrong.keys() <= right.keys(), name
        assert sum(wrong.get(path) != right[path] for path in right) == 1, name
