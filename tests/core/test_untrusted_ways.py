"""The same attacks by other ways in, and by the files around a recipe; and what the command line may do."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from lmgraft import paths  # noqa: E402
from recipe_doors import SECRET, Door, recipe  # noqa: E402
from recipe_doors_config import CONFIG_DOORS  # noqa: E402
from recipe_doors_text import TEXT_DOORS  # noqa: E402
from recipe_scene import Scene, make_scene, poison, process  # noqa: E402


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scene:
    return make_scene(tmp_path, monkeypatch, capsys)


# --- the same by other ways in ---------------------------------------------------------------------------------------


def named(name: str) -> Door:
    return next(door for door in [*CONFIG_DOORS, *TEXT_DOORS] if door.name == name)


FEW = ("hydra.callbacks", "defaults: an absolute name", "params: a resolver escaped", "run.dir")


@pytest.mark.parametrize("name", FEW)
def test_console_script(name: str, scene: Scene) -> None:
    file = scene.write(named(name))
    ended = process(["lmgraft", "run", file, "--multirun", "corpus.validation_bytes=0,1"], scene.stranger.parent)
    assert not [*scene.harm()]
    assert SECRET not in ended.stdout + ended.stderr
    assert (ended.returncode, named(name).why in ended.stderr) == (2, True)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize(
    "command",
    [
        ("run", "{}"),
        ("run", "{}", "--dry-run"),
        ("run", "{}", "--multirun", "--dry-run"),
        ("run", "{}", "--cfg", "all", "--resolve"),
        ("run", "{}", "--info", "all"),
        ("explain", "{}", "corpus.shard_bytes"),
    ],
    ids=" ".join,
)
def test_every_command_that_composes(name: str, command: tuple[str, ...], scene: Scene) -> None:
    file = scene.write(named(name))
    code, said = scene.run(*(word.format(file) for word in command))
    assert not [*scene.harm()]
    assert SECRET not in said
    assert (code, named(name).why in said) == (2, True)


@pytest.mark.parametrize("name", FEW)
def test_recipe_of_an_installed_distribution(name: str, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that came by pip is data like any other."""
    file = Path(scene.write(named(name)))
    monkeypatch.setattr(paths, "recipe_files", lambda: {"theirs": (file, "someone-elses")})
    code, said = scene.run("run", "theirs", "--multirun", "corpus.validation_bytes=0,1")
    assert not [*scene.harm()]
    assert SECRET not in said
    assert (code, named(name).why in said) == (2, True)


def test_recipe_that_extends_an_evil_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = Path(scene.write(named("hydra.callbacks")))
    monkeypatch.setattr(paths, "recipe_files", lambda: {"theirs": (evil, "someone-elses")})
    mine = scene.root / "mine.yaml"
    mine.write_text("defaults: [recipes/theirs, _self_]\n")
    code, said = scene.run("run", str(mine), "--multirun", "corpus.validation_bytes=0,1")
    assert not [*scene.harm()]
    assert code == 2
    assert "is refused in a recipe file" in said


def test_part_set_by_hand_imports_nothing(scene: Scene) -> None:
    """Only what the defaults list chooses is imported, whatever a file says of `part` and `kind`."""
    file = scene.stranger / "recipe.yaml"
    for body in (
        "corpus:\n  sources: {files: {path: '@DOCS@', part: python_docs}}",
        "corpus:\n  kind: tokenizer\n  sources: {files: {path: '@DOCS@'}}",
    ):
        file.write_bytes(scene.fill(recipe(body)))
        ended = process([sys.executable, "-c", _IMPORTS, str(file)], scene.root)
        assert "never set by hand" in ended.stdout
        assert "lmgraft_python_docs" not in ended.stdout


_IMPORTS = """
import sys
from lmgraft import compose, recipe
ref = compose.resolve(sys.argv[1])
try:
    recipe.read(compose.compose(ref, []), ref.name)
except Exception as error:
    print(error)
print([name for name in sys.modules if name.startswith("lmgraft_")])
"""


def test_unselected_parts_stay_unimported(scene: Scene) -> None:
    file = scene.stranger / "recipe.yaml"
    file.write_bytes(scene.fill(recipe()))
    ended = process([sys.executable, "-c", _IMPORTS, str(file)], scene.root)
    # The recipe's source, and the layout that base chooses for every stage.
    chosen = ["lmgraft_data_parallel", "lmgraft_data_parallel.plugin", "lmgraft_files", "lmgraft_files.plugin"]
    assert sorted(ast.literal_eval(ended.stdout)) == chosen


def test_modules_beside_the_recipe_are_not_imported(scene: Scene) -> None:
    """The user stands in the stranger's folder; lmgraft looks for no modules there."""
    (scene.stranger / "recipe.yaml").write_bytes(scene.fill(recipe()))
    poison(scene, "yaml.py", "lmgraft.py", "hydra_plugins/evil.py", "multiprocessing.py")
    ended = process(["lmgraft", "run", "recipe.yaml", "--dry-run"], scene.stranger)
    assert not [*scene.harm()]
    assert ended.returncode == 0


def test_modules_beside_the_recipe_are_not_imported_by_workers(scene: Scene) -> None:
    """`spawn` starts `python -c`, whose import path begins with the working directory."""
    poison(scene, "multiprocessing.py")
    script = scene.root / "as_the_console_script.py"
    script.write_text(_CHILD)
    ended = process([sys.executable, str(script)], scene.stranger)
    assert not [*scene.harm()]
    assert "the child's answer: 42" in ended.stdout


_CHILD = """
import concurrent.futures, math, multiprocessing
from lmgraft.cli import main

if __name__ == "__main__":
    try:
        main(["recipes"])
    except SystemExit:
        pass
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        print("the child's answer:", pool.submit(math.lcm, 6, 7).result())
"""


def test_modules_beside_the_recipe_are_not_imported_by_python_m(scene: Scene) -> None:
    (scene.stranger / "recipe.yaml").write_bytes(scene.fill(recipe()))
    poison(scene, "hydra_plugins/evil.py", "yaml.py")
    process([sys.executable, "-m", "lmgraft", "run", "recipe.yaml", "--dry-run"], scene.stranger)
    assert not [*scene.harm()]


def test_text_glued_to_a_resolver_is_not_resolved(scene: Scene) -> None:
    """Pieces that spell a resolver once they are put together stay text, however often they are resolved."""
    glued = 'data: {a: "$", b: "{oc.env:LMGRAFT_TEST_WORD}", c: "${.a}${.b}", d: "${.c}"}'
    file = scene.stranger / "recipe.yaml"
    body = f"{glued}\ncorpus:\n  sources: {{files: {{path: '@DOCS@', text: '${{data.d}}'}}}}"
    file.write_bytes(scene.fill(recipe(body)))
    for flags in (["--dry-run"], ["--cfg", "job"], ["--cfg", "all", "--resolve"], ["--multirun", "seed=1"]):
        assert SECRET not in scene.run("run", str(file), *flags)[1]
    assert not [*scene.harm()]


@pytest.mark.parametrize(
    "name",
    ["${oc.env:LMGRAFT_TEST_WORD}", "..", "[bold]"],
)
def test_names_of_recipe_files_are_only_names(name: str, scene: Scene) -> None:
    file = scene.stranger / f"{name}.yaml"
    file.write_bytes(scene.fill(recipe()))
    code, said = scene.run("run", str(file), "--multirun", "seed=1")
    assert not [*scene.harm()]
    assert not [path for path in scene.root.rglob("*") if SECRET in path.name]
    assert sorted(path.name for path in scene.stranger.parent.iterdir()) in (["runs", "stranger"], ["stranger"])
    assert code in (0, 2)
    assert "Traceback" not in said
    assert SECRET not in said


def test_run_directory_of_a_stranger(scene: Scene) -> None:
    """`rerun` takes its overrides from a file too: run.json."""
    file = scene.stranger / "recipe.yaml"
    file.write_bytes(scene.fill(recipe()))
    given = scene.stranger / "given"
    assert scene.run("run", str(file), f"run.dir={given}")[0] == 0
    data = json.loads((given / "run.json").read_text())
    for line in ("corpus.sources.files.text=${oc.env:LMGRAFT_TEST_WORD}", f"store.dir={scene.outside}/store"):
        (given / "run.json").write_text(json.dumps({**data, "overrides": [line]}))
        code, said = scene.run("rerun", str(given), "--accept-drift")
        assert not [*scene.harm()]
        assert SECRET not in said
        # The store is the one that the run used, if there is one, and no other place.
        assert code == (2 if "oc.env" in line else 0)


# --- the command line is its user's own ------------------------------------------------------------------------------


def test_the_scene_shows_harm(scene: Scene) -> None:
    """What is refused in a file is allowed on the command line, and has the effect that the tests above look for."""
    file = scene.stranger / "recipe.yaml"
    file.write_bytes(scene.fill(recipe()))
    lines = [
        "+hydra.callbacks.a={_target_:logging.FileHandler,filename:" + str(scene.marker) + "}",
        "corpus.sources.files.text=${oc.env:LMGRAFT_TEST_WORD}",
        f"store.dir={scene.outside}/store",
        "seed=1",
    ]
    code, _ = scene.run("run", str(file), "--multirun", *lines)
    assert code == 0
    harms = [*scene.harm()]
    assert harms[:2] == ["code ran", "the outside was changed"]
    # Under a name that tells of no secret: what is under one that does is masked (test_secrets.py).
    assert any("the secret stands in" in harm for harm in harms)


def test_what_is_under_a_telling_name_is_masked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENE_API_TOKEN", SECRET)
    file = scene.stranger / "recipe.yaml"
    file.write_bytes(scene.fill(recipe()))
    run = scene.outside.parent / "masked"
    code, _ = scene.run("run", str(file), "corpus.sources.files.text=${oc.env:SCENE_API_TOKEN}", f"run.dir={run}")
    assert code == 0
    for name in ("run.json", "report.html"):
        text = (run / name).read_text()
        assert SECRET not in text
        assert "***" in text


@pytest.mark.parametrize(
    "line",
    [
        "hydra.job.name=x",
        "hydra/launcher=basic",
        "hydra.job.chdir=true",
        "+hydra.job.env_set.A=b",
        "hydra.verbose=true",
        "hydra.sweep.dir=x",
        "run.dir=x",
        "store.dir=x",
        "device=${oc.env:LMGRAFT_TEST_DEVICE}",
        "stages=[corpus]",
    ],
)
def test_the_command_line_may(line: str, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMGRAFT_TEST_DEVICE", "cpu")
    file = scene.stranger / "recipe.yaml"
    file.write_bytes(scene.fill(recipe()))
    code, said = scene.run("run", str(file), line, "--dry-run")
    assert code == 0, said
    assert "nothing was run" in said
