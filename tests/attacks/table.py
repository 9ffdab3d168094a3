"""The table of attacks and accidents in docs/security.md: `python -m tests.attacks.table` writes it there."""

from itertools import groupby

from tests.attacks.entry import Entry, Probe
from tests.attacks.run import ENTRIES
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- table: written by python -m tests.attacks.table -->", "<!-- end of the table -->"


def outcome(entry: Entry | Probe) -> str:
    """What must come out, in a few words."""
    if isinstance(entry, Probe):
        return "gets nothing"
    if not entry.expect:
        return "full points"
    if set(entry.expect.values()) == {"missing"}:
        return "no points: nothing was handed in"
    [(attacked, wanted), *others] = entry.expect.items()
    words = {"refused": "no points", "forbidden": "points withheld"}
    told = " or ".join(words.get(status, status) for status in wanted.split("|"))
    return told + ("" if attacked == "rnn_step" else f" (`{attacked}`)") + ("; others may suffer" if others else "")


def table() -> str:
    lines = []
    for group, entries in groupby(ENTRIES, key=lambda entry: entry.group):
        lines += [f"### {group}", "", "| | what it tries | what comes out |", "|:--|:--|:--|"]
        lines += [f"| `{e.name}` | {e.tries.replace('|', '&#124;')} | {outcome(e)} |" for e in entries]
        lines.append("")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with the present table in it."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
