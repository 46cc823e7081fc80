"""The suite of a distribution's recipes: they are in the wheel, say what they are for, and compose."""

from __future__ import annotations

from pathlib import Path

from lmgraft import compose, distributions, paths, table
from lmgraft import recipe as recipes
from lmgraft.errors import UserError
from lmgraft.testing.outcome import NotApplicable
from lmgraft.testing.suite import Suite

__all__ = ["RecipesSuite"]

_HEADER = ("Purpose", "Hardware", "Minutes", "Expect")


class RecipesSuite(Suite):
    """Holds every recipe behind one entry point of the group ``lmgraft.recipes`` to what ``lmgraft recipes`` and
    ``lmgraft run`` expect; ``component`` is the distribution's name."""

    seam = "recipes"

    def test_recipes_are_in_the_wheel(self) -> None:
        """the package that the entry point names holds YAML files"""
        places = ", ".join(self._packages())
        self.require(
            bool(self._files()),
            f"{self.component} names {places} as a package of recipes, and no YAML file is there",
            "the wheel was built without them, or the name is another one",
            "put the files into the package's folder and look into the wheel: unzip -l dist/*.whl",
        )

    def test_headers_are_told(self) -> None:
        """every recipe's head says purpose, hardware, minutes and what to expect"""
        for name, file in self._files().items():
            head = file.read_text(encoding="utf-8").splitlines()[:12]
            missing = [word for word in _HEADER if not any(line.startswith(f"# {word}:") for line in head)]
            self.require(
                not missing,
                f"the recipe {name} does not say its {', '.join(missing).lower()}",
                "`lmgraft recipes` prints these lines, and people choose by them",
                f"# {missing[0] if missing else ''}: ... among the first lines of {file.name}",
            )

    def test_recipes_compose(self) -> None:
        """every recipe composes with the parts that are installed; what the user must give may be unset"""
        for name in self._files():
            try:
                ref = compose.resolve(name)
                recipes.read(compose.compose(ref, ()), ref.name, ref.given)
            except UserError as error:
                real = [problem for problem in error.problems if "is not set" not in problem.fact]
                first = real[0] if real else error.problems[0]
                self.require(not real, f"the recipe {name}: {first.fact}", first.cause, first.remedy)

    def _files(self) -> dict[str, Path]:
        own = table.canonical(self.component)
        found = {name: file for name, (file, owner) in paths.recipe_files().items() if table.canonical(owner) == own}
        if not found and not self._packages():
            raise NotApplicable("it ships no recipes")
        return found

    def _packages(self) -> list[str]:
        one = distributions.named(self.component)
        return one.values("recipes") if one else []
