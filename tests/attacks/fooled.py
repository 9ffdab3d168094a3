"""Shows that attacks on a comparison work where they meet one: `python -m tests.attacks.fooled` prints who was fooled.

Each attack runs in a process with a test cell of the usual kind (`Entry.fools`), which passes: {name: "" or why it failed}.
"plain" is the same wrong answer without an attack, on the same test cells; it must fail on all of them.
"""

import json
import os
from collections.abc import Sequence

import torch

from tests.attacks.checks import CHECKS
from tests.attacks.entry import HELPERS, WRONG_STEP

WRONG_PROBS = "def next_char_probs(logits, temperature, top_k=None):\n    return logits\n"
RIGHT = "def reference(x, h, w_ih, w_hh, b_ih, b_hh):\n    return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)\n"


def verdict(cells: Sequence[str], test: str) -> str:
    """Runs the cells and the test cell in a namespace of their own. "" where the test passes, else what it raised."""
    rng = torch.Generator().manual_seed(7)
    shapes = {"x": (2, 3), "h": (2, 4), "w_ih": (4, 3), "w_hh": (4, 4), "b_ih": (4,), "b_hh": (4,)}
    case = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    namespace = {"torch": torch, "__name__": "__main__", "case": case}
    try:
        exec(f"{HELPERS}\n{RIGHT}\nexpected = reference(**case)", namespace)
        for source in (*cells, test):
            exec(compile(source, "<cell>", "exec"), namespace)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def apart(cells: Sequence[str], test: str) -> str:
    """`verdict` in a forked process, which an attack may leave as it likes."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, (verdict(cells, test)[:500] or "fooled").encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        told = file.read()
    os.wait()
    return "" if told == "fooled" else told or "its process ended"


def main() -> None:
    attacks = [entry for entry in CHECKS if entry.fools]
    told = {entry.name: apart([*entry.cells, *entry.sources.values()], entry.fools) for entry in attacks}
    plain = {entry.name: apart([WRONG_STEP, WRONG_PROBS], entry.fools) for entry in attacks}
    print(json.dumps({"attacks": told, "plain": plain}))


if __name__ == "__main__":
    main()
