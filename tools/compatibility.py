"""Writes the table of options in docs/compatibility.md from the one place where they are declared.

python tools/compatibility.py           rewrites the document
A test fails while the document says something else than this would write.
"""

from __future__ import annotations

from pathlib import Path

from glowplug.model.declared import Effect, Option, options_of
from glowplug.model.options import FunctionOptions

DOCUMENT = Path(__file__).parents[1] / "docs" / "compatibility.md"
BEGIN = "<!-- options: written by tools/compatibility.py -->"
END = "<!-- end of options -->"

EFFECTS = {
    Effect.CARRIED_OUT: "yes",
    Effect.NOT_YET: "not yet",
    Effect.MEANS_NOTHING: "means nothing here",
    Effect.OLD_NAME: "old name",
}


def _row(name: str, option: Option) -> str:
    effect = EFFECTS[option.effect]
    if option.effect is Effect.OLD_NAME:
        effect += f" of `{option.new_name}`"
    elif option.note:
        effect += f": {option.note}"
    return f"| `{name}` | {option.doc} | {effect} |"


def table() -> str:
    rows = [_row(name, option) for name, option in options_of(FunctionOptions).items()]
    return "\n".join(["| option | meaning | carried out |", "|---|---|---|", *rows])


def written(document: str) -> str:
    """The document with its table brought up to date."""
    head, _, rest = document.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
