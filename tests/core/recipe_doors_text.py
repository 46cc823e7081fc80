"""Attacks by what a recipe's text turns into: sweep parameters, interpolations, YAML's tags and aliases, characters."""

from __future__ import annotations

from recipe_doors import CALL, Door, one, params, recipe, text

__all__ = ["TEXT_DOORS"]

# fmt: off
PARAMS = [
    params("hydra.callbacks", f"{{'hydra.callbacks.a': \"{CALL}\"}}", "Hydra's own node"),
    params("+hydra.callbacks", "{'+hydra.callbacks.a._target_': logging.FileHandler}"),
    params("++hydra.callbacks", "{'++hydra.callbacks.a._target_': logging.FileHandler}"),
    params("~hydra", "{'~hydra.output_subdir': ''}"),
    params("hydra as a mapping", "{hydra: '{callbacks:{a:{x:1}}}'}"),
    params("hydra.searchpath", "{hydra.searchpath: '[file://@OUTSIDE@]'}"),
    params("hydra/launcher", "{hydra/launcher: 'basic,joblib'}"),
    params("hydra/callbacks", "{+hydra/callbacks: evil}"),
    params("a package hydra", "{'+local@hydra.job': evil}", local__evil="chdir: true\n"),
    params("a resolver", "{seed: '${oc.env:LMGRAFT_TEST_WORD}'}"),
    params("a resolver in a choice", "{'corpus.sources.files.text': 'a,${oc.env:LMGRAFT_TEST_WORD}'}"),
    params("a resolver escaped", "{'corpus.sources.files.text': 'a,$\\{oc.env\\:LMGRAFT_TEST_WORD\\}'}"),
    params("a resolver escaped in a mapping", "{+data: '{a:$\\{oc.env\\:LMGRAFT_TEST_WORD\\}}'}"),
    params("a resolver escaped in a list", "{+data: '[$\\{oc.env\\:LMGRAFT_TEST_WORD\\}]'}"),
    params("a resolver escaped in choice()",
           "{corpus.sources.files.text: 'choice(a,$\\{oc.env\\:LMGRAFT_TEST_WORD\\})'}"),
    params("a resolver escaped in str()", "{corpus.sources.files.text: 'str($\\{oc.env\\:LMGRAFT_TEST_WORD\\})'}"),
    params("a resolver quoted", "{'corpus.sources.files.text': '\"${oc.env:LMGRAFT_TEST_WORD}\"'}"),
    params("a reference into hydra", "{corpus.sources.files.text: '${hydra.runtime.cwd}'}"),
    params("a resolver in the key", "{'${oc.env:LMGRAFT_TEST_WORD}': 1}"),
    params("two overrides in one", "{seed: \"1\\nhydra.callbacks.a._target_=x\"}"),
    params("two overrides in a key", "{\"seed=1\\nhydra.callbacks.a\": '{x:1}'}"),
    params("an equals sign in the key", "{'hydra.callbacks.a={x:1}': 1}"),
    params("no override at all", "{'a b c': 1}"),
    params("a number for a key", "{7: 1}", "recipe file"),
    params("a mapping for a value", "{seed: {a: 1}}", "recipe file"),
    params("a file outside", "{local: ../../outside/evil}", local__x="a: 1\n"),
    params("a file outside of an installed group", "{+filter@corpus.filters: ../../../../../../../../@OUTSIDE@/evil}"),
    params("an absolute file", "{+local: /@OUTSIDE@/evil}", local__x="a: 1\n"),
]

TEXTS = [
    text("oc.env", "'${oc.env:LMGRAFT_TEST_WORD}'"),
    text("oc.env with spaces", "'${ oc.env : LMGRAFT_TEST_WORD }'"),
    text("oc.env with a default", "'${oc.env:LMGRAFT_TEST_WORD,x}'"),
    text("oc.env quoted", "'${oc.env:\"LMGRAFT_TEST_WORD\"}'"),
    text("oc.env within text", "'a ${oc.env:LMGRAFT_TEST_WORD} b'"),
    text("oc.env after a reference", "'${seed}${oc.env:LMGRAFT_TEST_WORD}'"),
    one("text: oc.env in a block",
        "corpus:\n sources:\n  files:\n   path: '@DOCS@'\n   text: >-\n    ${oc.env:LMGRAFT_TEST_WORD}"),
    text("oc.env over two lines", '"a\\n${oc.env:LMGRAFT_TEST_WORD}"'),
    text("oc.env, name computed", "'${oc.${data}:LMGRAFT_TEST_WORD}'"),
    text("oc.env, variable computed", "'${oc.env:LMGRAFT_TEST_${data}}'"),
    text("oc.env in a default of another", "'${oc.select:nothing,${oc.env:LMGRAFT_TEST_WORD}}'"),
    text("oc.env in a mapping", "'${oc.create:{a: 1}}'"),
    text("oc.decode", "'${oc.decode:\"1\"}'"),
    text("oc.select", "'${oc.select:hydra.runtime.cwd}'"),
    text("hydra resolver", "'${hydra:runtime.cwd}'"),
    text("now", "'${now:%Y}'"),
    text("python_version", "'${python_version:}'"),
    text("an unknown resolver", "'${eval:1}'"),
    text("hydra's node", "'${hydra.runtime.cwd}'"),
    text("hydra's node with spaces", "'${ hydra.runtime.cwd }'"),
    text("hydra's node in brackets", "'${[hydra].runtime.cwd}'"),
    text("hydra's node, brackets within", "'${hydra[runtime][cwd]}'"),
    text("hydra's node from below", "'${....hydra.runtime.cwd}'"),
    text("hydra's node from below in brackets", "'${....[hydra].runtime.cwd}'"),
    one("text: hydra's node computed",
        "data: hydra\ncorpus:\n  sources: {files: {path: '@DOCS@', text: '${${data}.runtime.cwd}'}}"),
    one("text: hydra's node, key computed",
        "data: dra\ncorpus:\n  sources: {files: {path: '@DOCS@', text: '${hy${data}.runtime.cwd}'}}"),
    text("what does not parse", "'${oc.env:LMGRAFT_TEST_WORD'"),
    text("escaped, to be resolved later", "'\\${oc.env:LMGRAFT_TEST_WORD}'"),
    text("escaped thrice", "'\\\\\\${oc.env:LMGRAFT_TEST_WORD}'"),
    one("text: in a list", "data: [1, ['${oc.env:LMGRAFT_TEST_WORD}']]\nx: ${data}"),
    Door("text: in stages", {
        "recipe.yaml": "defaults: [base]\nstages: ['${oc.env:LMGRAFT_TEST_WORD}']\n"}),
    one("text: in a key", "data: {'${oc.env:LMGRAFT_TEST_WORD}': 1}\nx: ${data}"),
    one("text: in a group file", "", before=("local: evil",), local__evil="a: ${oc.env:LMGRAFT_TEST_WORD}\n"),
    # OmegaConf's YAML loader knows pathlib's tags; a path becomes a string where one is wanted, and is then resolved.
    text("a path tag", "!!python/object/apply:pathlib.Path ['${oc.env:LMGRAFT_TEST_WORD}']"),
    text("a posix path tag", "!!python/object/apply:pathlib.PosixPath ['${oc.env:LMGRAFT_TEST_WORD}']"),
    text("bytes", "!!binary JHtvYy5lbnY6TE1HUkFGVF9URVNUX1NFQ1JFVH0="),
]

TAGS = [
    one("tag: python object", "data: !!python/object/apply:logging.FileHandler ['@MARKER@']", why="no valid YAML"),
    one("tag: python new", "data: !!python/object/new:logging.FileHandler ['@MARKER@']", why="no valid YAML"),
    one("tag: python name", "data: !!python/name:os.system", why="no valid YAML"),
    one("tag: python module", "data: !!python/module:antigravity", why="no valid YAML"),
    one("tag: local", "data: !evil x", why="no valid YAML"),
    one("tag: verbatim", "data: !<tag:yaml.org,2002:python/object/apply:logging.FileHandler> ['@MARKER@']",
        why="no valid YAML"),
    one("tag: set", "data: !!set {a, b}\nx: ${data}"),
    one("tag: omap", "data: !!omap [{a: 1}]\nx: ${data}"),
    one("tag: timestamp", "data: !!timestamp 2020-01-01\nx: ${data}"),
    one("tag: bad bool", "data: !!bool x", why="no valid YAML"),
    one("tag: bad integer", "data: !!int x", why="no valid YAML"),
    one("tag: an integer of a million digits", f"data: {'7' * 100_000}", why="no valid YAML"),
    Door("tag: in a directive", {"recipe.yaml": "%TAG ! tag:yaml.org,2002:python/object/apply:\n---\n"
         "data: !logging.FileHandler ['@MARKER@']\n"}, "no valid YAML"),
]


def bomb(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, levels)]
    return "\n".join(lines)


SIZES = [
    one("size: aliases", bomb(12, 10), why="aliases"),
    Door(
        "size: aliases in the defaults", {"recipe.yaml": f"{bomb(12, 10)}\ndefaults: [{{local: *a11}}]\n"}, "aliases"),
    one("size: aliases in the sweep", f"{bomb(12, 10)}\nhydra: {{sweeper: {{params: {{seed: *a11}}}}}}", why="aliases"),
    one("size: merge keys", merges(60), why="aliases"),
    one("size: an alias of itself", "data: &a [*a]", why="aliases"),
    one("size: a mapping of itself", "data: &a {b: *a}", why="aliases"),
    one("size: deep lists", "data: " + "[" * 200 + "]" * 200, why="recipe file"),
    one("size: very deep lists", "data: " + "[" * 2_000 + "]" * 2_000, why="YAML"),
    one("size: many references", f"data: '{'${seed}' * 5_000}'", why="recipe file"),
    one("size: nested references", f"data: '{'${' * 400}seed{'}' * 400}'", why="recipe file"),
    Door("size: a chain of doubled includes", {
        "recipe.yaml": recipe(before=("d0",)),
        **{f"d{n}.yaml": f"defaults: [d{n + 1}, d{n + 1}]\n" for n in range(40)},
        "d40.yaml": "x: 1\n"}, "1000 configs"),
    Door("size: a circle of includes", {
        "recipe.yaml": recipe(before=("g/a",)),
        "g/a.yaml": "defaults: [/h: b]\n",
        "h/b.yaml": "defaults: [/g/a]\n"}, "a.yaml includes itself"),
    one("size: a large file", "# " + "x" * (1 << 20), why="1 MiB"),
]

CHARACTERS = [
    Door("a null byte", {"recipe.yaml": b"a: b\x00c\n"}, "no valid YAML"),
    Door("not UTF-8", {"recipe.yaml": b"a: \xff\n"}, "not UTF-8"),
    Door("UTF-16", {"recipe.yaml": f"hydra: {{callbacks: {{a: {CALL}}}}}".encode("utf-16")}, "not UTF-8"),
    Door("two documents", {"recipe.yaml": f"a: 1\n---\nhydra: {{callbacks: {{a: {CALL}}}}}\n"}, "no valid YAML"),
    Door("a list at the top", {"recipe.yaml": "- a\n"}),
    Door("text at the top", {"recipe.yaml": "hydra.callbacks\n"}),
    Door("a reference at the top", {"recipe.yaml": "${oc.env:LMGRAFT_TEST_WORD}\n"}),
    Door("behind a byte order mark", {"recipe.yaml": b"\xef\xbb\xbfhydra: {callbacks: {a: " + CALL.encode() + b"}}\n"}),
]

TEXT_DOORS = [*PARAMS, *TEXTS, *TAGS, *SIZES, *CHARACTERS]
