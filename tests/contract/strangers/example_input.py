"""Example input of the strangers' recipe: .blocks files, some documents of which have a title that came before."""

from __future__ import annotations

import random
from pathlib import Path

ANIMALS = ("otter", "heron", "newt", "badger", "swift", "pike", "hare", "toad")
PLACES = ("river", "marsh", "old mill", "orchard", "north field")
SENTENCES = (
    "The {animal} waits by the {place} until the water is still.",
    "In the morning the {animal} leaves the {place} and follows the hedge.",
    "Nobody at the {place} has seen the {animal} since the rain began.",
    "A {animal} that knows the {place} is never far from it.",
    "When the wind turns, the {animal} sleeps, and the {place} is quiet.",
)


def write(folder: Path) -> None:
    """Sixty-four documents in eight files below `folder`; forty have a title of their own, the rest repeat one."""
    chance = random.Random(7)
    titles = [(animal, place) for animal in ANIMALS for place in PLACES]
    order = titles + chance.sample(titles, 24)
    chance.shuffle(order)
    for number in range(8):
        file = folder / ("wet" if number % 2 else "dry") / f"notes-{number}.blocks"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8", newline="\n") as out:
            for animal, place in order[number::8]:
                lines = [
                    chance.choice(SENTENCES).format(animal=animal, place=place) for _ in range(chance.randint(4, 12))
                ]
                out.write(f"Title: {animal.capitalize()} at the {place}\nStars: {chance.randint(1, 5)}\n")
                out.writelines(f"  {line}\n" for line in lines)
                out.write("\n")
