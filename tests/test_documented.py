"""Nothing that a plugin's author or a recipe's writer meets is without a word, and the generated pages are fresh."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from lmgraft.version import DOORS, SEAMS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import generate  # noqa: E402
from generator import helpers, parts, reference, testing  # noqa: E402
from generator.markdown import prose, slug  # noqa: E402
from generator.source import module  # noqa: E402

HOOKS = reference.hooks()
SEAM_MODULES = [f"lmgraft.seams.{seam}" for seam in (*SEAMS, *DOORS)]
HELPERS = helpers.helpers()


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented(name: str):
    assert HOOKS[name].doc


@pytest.mark.parametrize("name", [*SEAM_MODULES, "lmgraft.component"])
def test_every_public_name_of_a_contract_is_documented_with_its_methods_and_fields(name: str):
    contract = module(name)
    assert contract.doc
    assert set(contract.public) <= set(contract.entries)
    public = [contract.entries[public] for public in contract.public if public != "T"]
    assert [missing for one in public for missing in one.undocumented()] == []


@pytest.mark.parametrize("name", HELPERS)
def test_every_helper_is_documented_with_its_methods_and_fields(name: str):
    home = module(name)
    assert home.doc
    assert [missing for one in HELPERS[name] for missing in home.entries[one].undocumented()] == []


def test_the_helpers_hold_what_first_party_plugins_import():
    assert "launch" in HELPERS["lmgraft.training.ranks"]
    assert "joined" in HELPERS["lmgraft.training.ranks"], "megatron takes it from joining, which has it from there"
    private = [f"{home}.{name}" for home, names in HELPERS.items() for name in names if name not in module(home).public]
    assert private == [], "a plugin may build on public names only"


@pytest.mark.parametrize(("seam", "name"), parts.components())
def test_every_setting_of_a_first_party_part_is_documented(seam: str, name: str):
    _, component = parts.components()[seam, name]
    assert [setting.name for setting in parts.settings(component.config) if not setting.doc] == []


@pytest.mark.parametrize("seam", testing.suites())
def test_every_check_of_a_suite_is_on_its_page(seam: str):
    from lmgraft import testing as kit
    from lmgraft.testing.running import checks_of

    told = testing.checks(testing.suites()[seam]) | testing.checks(testing.common())
    assert told.keys() == set(checks_of(getattr(kit, kit.SUITES[seam]))), "a check without a docstring is on no page"


def test_the_generated_pages_are_fresh():
    assert generate.stale() == [], "python docs/generate.py"


@pytest.mark.parametrize("page", generate.PAGES)
def test_the_links_of_a_generated_page_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    anchors = Counter(slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE))
    assert [anchor for anchor, count in anchors.items() if count > 1] == []
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert [link for link in links if link.startswith("#") and link[1:] not in anchors] == []
    files = {link.partition("#")[0] for link in links if not link.startswith(("#", "http"))}
    assert [file for file in files if not (page.parent / file).is_file()] == []


def test_the_pages_are_made_without_a_heavy_import():
    heavy = {"torch", "numpy", "pyarrow", "datasets", "transformers", "megatron", "wandb"}
    code = "import sys; sys.path.insert(0, 'docs'); import generate; generate.stale();"
    code += f" print(*({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []


def test_code_after_a_docstrings_first_line_stays_code():
    assert prose("Override it::\n\nclass A:\n    b = 1") == "Override it:\n\n    class A:\n        b = 1"
    assert prose("Like this::\n\n    a = 1\n\nAnd more.") == "Like this:\n\n    a = 1\n\nAnd more."


def test_a_stale_page_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    page = tmp_path / "parts.md"
    page.write_text("# Parts\n", encoding="utf-8")
    monkeypatch.setattr(generate, "PAGES", {page: lambda: "# Parts\n\nMore.\n"})
    assert generate.main(["--check"]) == 2
    assert "python docs/generate.py" in capsys.readouterr().err
    assert generate.main([]) == 0
    assert page.read_text(encoding="utf-8") == "# Parts\n\nMore.\n"
    assert generate.main(["--check"]) == 0
