"""Classes of made-up students: submissions of a week put together out of its solution, its alternates and its mistakes.

Every submission comes with what its grade has to be, so that grading the class tests the whole way from a file to the
gradebook. The same week and the same seed give the same class.
"""

import csv
import json
import random
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nbformat import NotebookNode

from autograder.exercise import Mistake
from autograder.submission import filled, write_submission
from autograder.week import Week

SEED = "the demo's class"
NAMES = """
Amara Okafor, Björn Lindqvist, Chiara Rossi, Dmitri Volkov, Esperanza de la Cruz, Fatima Zahra, Giorgos Pappas, Hana Kim,
Ibrahim Diallo, Jana Novák, Kwame Mensah, Li Wei, María José Núñez, Nguyễn Thị An, Siobhán O'Neil, Priya Raman, Qiu Shan,
Rosa Meier, Sami Virtanen, Tomás Silva, Uma Devi, Viktor Horvat, Wanjiru Mwangi, Yuki Tanaka, Zoë Dubois, Mehmet Yılmaz
"""
WRITTEN = "Because gradients are multiplied step by step, small factors shrink them and large ones blow them up."


@dataclass(frozen=True)
class Expected:
    """What an exercise's grade must be. `named` are the messages told; None where the maker cannot know them."""

    points: float
    status: str
    named: tuple[str, ...] | None = ()


@dataclass(frozen=True)
class Made:
    """One student of the class. `profile` says in words what is special about the submission.

    `sources` are the solution cells by exercise; those not in it stay as released. `edit` changes the notebook that is
    handed in as `file`, and `raw`, where it is given, is handed in instead of it. `late` is counted from the due date.
    """

    student: str
    first_name: str
    last_name: str
    profile: str
    sources: dict[str, str]
    expected: dict[str, Expected]
    late: timedelta = timedelta(hours=-20)
    written: bool = True
    models: bool = True
    file: str = ""
    edit: Callable[[NotebookNode], None] | None = None
    raw: bytes | None = None
    mistakes: dict[str, Mistake] = field(default_factory=dict)

    @property
    def email(self) -> str:
        return f"{self.student}@example.org"


def model_of(week: Week, file: str) -> Path:
    """A trained model of the reference solution, which students of the class hand in as theirs."""
    return week.folder / "artifacts" / file


def plain(source: str) -> str:
    """A solution cell without nbgrader's markers, as a student would have it."""
    return "\n".join(line for line in source.splitlines() if not line.strip().startswith("### "))


def people(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """First and last names without end: the given ones, then the first names with the other last names, over and over."""
    firsts, lasts = zip(*(name.split(" ", 1) for name in names), strict=True)
    yield from zip(firsts, lasts, strict=True)
    while True:
        for shift in range(1, len(names)):
            yield from zip(firsts, [*lasts[shift:], *lasts[:shift]], strict=True)


class Maker:
    """Makes the students of a class, one profile after the other."""

    def __init__(self, week: Week, seed: str = SEED):
        self.week = week
        self.rng = random.Random(f"{seed} of {week.name}")
        self.exercises = {exercise.name: exercise for exercise in week.exercises}
        used = {name for exercise in week.exercises for name in exercise.uses}
        self.leaves = [e.name for e in week.exercises if e.name not in used and "." not in e.name]
        self.solution = {name: plain(week.solution(name)) for name in self.exercises}
        names = [name.strip() for name in NAMES.split(",")]
        self.rng.shuffle(names)
        self.names = people(names[::-1])
        self.taken: Counter[str] = Counter()
        # Some mistakes are more popular than others, as in any class.
        self.popular = {
            e.name: self.rng.sample(list(e.mistakes), len(e.mistakes)) for e in week.exercises if e.mistakes
        }

    # ------------------------------------------------------------------------------------------------ parts

    def right(self) -> dict[str, Expected]:
        expected = {e.name: Expected(e.points, "passed") for e in self.exercises.values()}
        for a in self.week.artifacts:
            there = model_of(self.week, a.file).exists()
            expected[a.name] = Expected(a.points, "passed") if there else Expected(0.0, "missing")
        return expected

    def person(self, profile: str, **changes) -> Made:
        """A perfect submission of the next student, with changes. Where two would have the same id, it is numbered."""
        first, last = next(self.names)
        letters = unicodedata.normalize("NFKD", f"{first[0]}{last}".casefold())
        student = "".join(letter for letter in letters if letter.isascii() and letter.isalpha())
        self.taken[student] += 1
        student += str(self.taken[student]) if self.taken[student] > 1 else ""
        made = Made(student, first, last, profile, dict(self.solution), self.right())
        return replace(made, **changes)

    def with_mistakes(self, made: Made, count: int) -> Made:
        """`count` exercises of a submission get a mistake each, more often a popular one than a rare one."""
        names = [name for name in self.popular if made.expected[name].status == "passed"]
        sources, expected, mistakes = dict(made.sources), dict(made.expected), {}
        for name in self.rng.sample(names, min(count, len(names))):
            known = self.popular[name]
            mistakes[name] = known[min(int(self.rng.expovariate(0.8)), len(known) - 1)]
            sources[name] = plain(self.week.mistaken(self.exercises[name], mistakes[name]))
            expected[name] = Expected(0.0, "wrong", (mistakes[name].message,))
        return self.knock_on(replace(made, sources=sources, expected=expected, mistakes=mistakes))

    def knock_on(self, made: Made) -> Made:
        """What follows from exercises that are not right: others that call them, and models built of them, suffer too.

        How they do, and whether they are right given the mistake, is not for the maker to know, so they get no expectation
        here; `demo.complete` asks the banks.
        A student whose models would suffer hands in none.
        """
        expected = dict(made.expected)
        wrong = {name for name in self.exercises if expected[name].status != "passed"}
        suffer: set[str] = set()
        while more := {
            e.name for e in self.exercises.values() if e.name not in suffer and (wrong | suffer).intersection(e.uses)
        }:
            suffer |= more
        for name in suffer:
            del expected[name]
        made = replace(made, expected=expected)
        return self.without_models(made) if (wrong | suffer) - set(self.leaves) else made

    def without_models(self, made: Made) -> Made:
        missing = {a.name: Expected(0.0, "missing") for a in self.week.artifacts}
        return replace(made, expected=made.expected | missing, models=False)

    def broken(self, profile: str, addition: str, status: str) -> Made:
        """A right submission but for one exercise, whose function is overwritten by what `addition` says ({name})."""
        name = self.rng.choice(self.leaves)
        made = self.person(profile)
        sources = made.sources | {name: f"{made.sources[name]}\n\n\n{addition.format(name=name)}\n"}
        return replace(made, sources=sources, expected=made.expected | {name: Expected(0.0, status)})

    def syntax_error(self) -> Made:
        return self.broken("a syntax error", "def {name}(*arguments:\n    return", "error")

    def in_other_styles(self, made: Made) -> Made:
        """Every exercise that has alternates solved in one of them."""
        sources = dict(made.sources)
        for name in self.exercises:
            others = [a.source for a in self.week.alternates if a.exercise == name]
            sources[name] = self.rng.choice(others or [sources[name]])
        return replace(made, sources=sources)

    def blank(self) -> Made:
        nothing = {name: Expected(0.0, "missing") for name in self.right()}
        return self.person("blank", sources={}, expected=nothing, written=False, models=False)

    def half_finished(self, until: int) -> Made:
        done = list(self.exercises)[:until]
        expected = {n: e if n in done else Expected(0.0, "missing") for n, e in self.right().items()}
        sources = {name: self.solution[name] for name in done}
        profile = f"stopped after exercise {until}"
        return self.person(profile, sources=sources, expected=expected, written=False, models=False)

    def unreadable(self) -> Made:
        nothing = {name: Expected(0.0, "missing") for name in self.right()}
        made = self.person("half of the file was never uploaded", expected=nothing, models=False)
        return replace(made, raw=b'{"cells": [{"cell_type": "code", "source": ["def rnn_st')

    # ------------------------------------------------------------------------------------------------ the class

    def ordinary(self, count: int) -> list[Made]:
        """`count` students as most are, for measuring: ten kinds of submissions in every ten, in mixed order.

        Right, in other styles, with one to four mistakes, half-finished, with warnings, with a syntax error. All of them
        end by themselves and can be read by any grader. There is no loop without end: how long it takes is a setting of the
        grader's, so that a comparison could be won or lost by it. A smaller class is the beginning of a larger one.
        """
        made: list[Made] = []
        while len(made) < count:
            until = self.rng.randrange(len(self.exercises) // 4, len(self.exercises))
            ten = [
                self.person("everything right"),
                self.in_other_styles(self.person("right in other styles")),
                *(self.with_mistakes(self.person("one mistake"), 1) for _ in range(2)),
                *(self.with_mistakes(self.person("two mistakes"), 2) for _ in range(2)),
                self.with_mistakes(self.person("four mistakes"), 4),
                self.half_finished(until),
                self.person("warnings on stderr", edit=warn),
                self.syntax_error(),
            ]
            self.rng.shuffle(ten)
            made += ten
        return made[:count]

    def everybody(self) -> list[Made]:
        """The demo's class: one or two of everything that can happen, in the order of the students' ids."""
        made = [
            self.person("everything right"),
            self.without_models(self.person("everything right, but no trained models")),
            self.in_other_styles(self.person("right in other styles")),
            self.in_other_styles(self.person("right in other styles")),
            *(self.with_mistakes(self.person("one mistake"), 1) for _ in range(2)),
            *(self.with_mistakes(self.person("two mistakes"), 2) for _ in range(2)),
            self.with_mistakes(self.person("three mistakes"), 3),
            self.with_mistakes(self.person("four mistakes"), 4),
            self.with_mistakes(self.person("six mistakes"), 6),
            self.with_mistakes(self.person("a day late, one mistake", late=timedelta(hours=15)), 1),
            self.person("three days late", late=timedelta(days=2, hours=7)),
            self.blank(),
            self.half_finished(min(5, len(self.exercises) - 1)),
            self.syntax_error(),
            self.broken(
                "a loop that does not end", "def {name}(*arguments, **more):\n    while True:\n        pass", "timeout"
            ),
            self.broken(
                "ends the process", "def {name}(*arguments, **more):\n    __import__('os')._exit(0)", "crashed"
            ),
            self.broken("calls sys.exit", "def {name}(*arguments, **more):\n    __import__('sys').exit(0)", "error"),
            self.with_mistakes(self.person("deleted a check cell", edit=delete_check), 1),
            self.person("a cell twice", edit=duplicate_cell),
            self.person("a check made easier", edit=weaken_check),
            self.with_mistakes(self.person("another file name", file=f"Copy of {self.week.name}"), 2),
            self.unreadable(),
            self.person("warnings on stderr", edit=warn),
        ]
        if any("autograd" in exercise.forbid for exercise in self.exercises.values()):
            made.append(self.forbidden())
        return sorted(made, key=lambda each: each.student)

    def forbidden(self) -> Made:
        """Uses autograd where it is forbidden: the last such exercise, so that nothing else depends on it."""
        name = next(n for n in reversed(self.leaves) if "autograd" in self.exercises[n].forbid)
        made = self.person("lets autograd do it")
        wrapped = (
            f"by_hand = {name}\n\n\ndef {name}(*arguments):\n"
            "    torch.ones(1, requires_grad=True).sum().backward()\n    return by_hand(*arguments)\n"
        )
        sources = made.sources | {name: f"{made.sources[name]}\n\n\n{wrapped}"}
        return replace(made, sources=sources, expected=made.expected | {name: Expected(0.0, "forbidden")})


def _cells(notebook: NotebookNode, role: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.metadata.get("course", {}).get("role") == role]


def delete_check(notebook: NotebookNode) -> None:
    notebook.cells.remove(_cells(notebook, "check")[1])


def duplicate_cell(notebook: NotebookNode) -> None:
    """JupyterLab's "copy and paste below": the same cell with the same grade id, under an id of its own."""
    cell = _cells(notebook, "solution")[0]
    copy = NotebookNode(json.loads(json.dumps(cell)))
    copy.id = "pasted"
    notebook.cells.insert(notebook.cells.index(cell) + 1, copy)


def weaken_check(notebook: NotebookNode) -> None:
    _cells(notebook, "check")[0].source = "print('all right')"


def warn(notebook: NotebookNode) -> None:
    for cell in _cells(notebook, "solution")[:3]:
        cell.source += "\n\nimport sys, warnings\n\nwarnings.warn('deprecated')\nprint('careful', file=sys.stderr)\n"


# ------------------------------------------------------------------------------------------------------ on disk


def write_class(week: Week, notebook: NotebookNode, made: Sequence[Made], submitted: Path, due: datetime) -> None:
    """Writes each student's submission of the released `notebook` to submitted/<student>/<week>/, as an exchange collects it."""
    questions = [cell.metadata.course.exercise for cell in _cells(notebook, "written")]
    for each in made:
        folder = submitted / each.student / week.name
        answers = dict.fromkeys(questions, WRITTEN) if each.written else {}
        handed_in = filled(notebook, each.sources, answers)
        if each.edit is not None:
            each.edit(handed_in)
        path = write_submission(folder, handed_in, each.file or week.name)
        if each.raw is not None:
            path.write_bytes(each.raw)
        for artifact in week.artifacts if each.models else []:
            model = model_of(week, artifact.file)
            for path in (model, model.with_suffix(".json")):
                if path.exists():
                    shutil.copy(path, folder)
        when = (due + each.late).astimezone(UTC)
        (folder / "timestamp.txt").write_text(f"{when:%Y-%m-%d %H:%M:%S} UTC\n")


def write_roster(path: Path, made: Sequence[Made]) -> None:
    """A roster as `nbgrader db student import` reads it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "first_name", "last_name", "email"])
        writer.writerows([each.student, each.first_name, each.last_name, each.email] for each in made)
