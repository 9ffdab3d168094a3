"""The class report, from a real gradebook and verdict files of a small made-up week."""

import csv
import re
import shutil
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from autograder.errors import CourseError
from autograder.lms import Score, canvas_rows, moodle_rows, number, safe
from autograder.report import read_report, write_report
from autograder.verdicts import Record, write
from autograder.verdicts import read as read_record
from autograder.week import Week
from course.check import Verdict
from tests.conftest import ROOT

WEEK = "week09_toy"
POINTS = {"check-add": 4.0, "check-scale": 6.0, "check-extra": 2.0, "written-why": 3.0}
NO_SUM = "The sum is left out."
DUE = datetime(2026, 3, 2, 12)


@pytest.fixture
def week(tmp_path: Path) -> Week:
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    folder = tmp_path / "solutions" / WEEK
    folder.mkdir(parents=True)
    (folder / f"{WEEK}.py").write_text(
        "\n".join(
            [
                '# %% exercise="add"\ndef add(a, b):\n    return a + b\n\n# %% check="add"\ncheck("add")\n',
                '# %% exercise="scale"\ndef scale(a):\n    return 2 * a\n\n# %% check="scale"\ncheck("scale")\n',
                '# %% [markdown] written="why" points=3\n# Why?\n',
                '# %% exercise="extra"\ndef extra(a):\n    return a\n\n# %% check="extra"\ncheck("extra")\n',
            ]
        ),
        encoding="utf-8",
    )
    (folder / "exercises.py").write_text(
        "from autograder.exercise import Exercise, Mistake\n"
        "EXERCISES = [\n"
        f'    Exercise("add", 4, None, [Mistake("no-sum", "{NO_SUM}", "a + b", "a")]),\n'
        '    Exercise("scale", 6, None),\n'
        '    Exercise("extra", 2, None, stretch=True, uses=["scale"]),\n'
        "]\n",
        encoding="utf-8",
    )
    return Week(folder)


@pytest.fixture(scope="module")
def empty_gradebook(tmp_path_factory) -> Path:
    """Copied by every test: nbgrader takes seconds to make one."""
    path = tmp_path_factory.mktemp("empty") / "gradebook.db"
    Gradebook(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def gradebook(week: Week, empty_gradebook: Path):
    (week.root / "grading").mkdir(exist_ok=True)
    shutil.copy(empty_gradebook, week.root / "grading")
    with Gradebook(f"sqlite:///{week.root}/grading/gradebook.db") as gradebook:
        gradebook.add_assignment(WEEK, duedate=DUE)
        gradebook.add_notebook(WEEK, WEEK)
        for name, points in POINTS.items():
            kind = "markdown" if name.startswith("written") else "code"
            gradebook.add_grade_cell(name, WEEK, WEEK, max_score=points, cell_type=kind)
        yield gradebook


def verdict(exercise: str, status: str = "passed", **fields) -> Verdict:
    points = POINTS[f"check-{exercise}"]
    return Verdict(exercise, status, 0, 3, points if status == "passed" else 0.0, points, **fields)


RIGHT = [verdict("add"), verdict("scale"), verdict("extra", "missing")]
NAMED = [verdict("add", "wrong", mistakes=("no-sum",), named=(NO_SUM,)), verdict("scale"), verdict("extra", "missing")]


def add(week: Week, gradebook: Gradebook, student: str, verdicts: list[Verdict], late: timedelta = timedelta(0), **who):
    """A graded submission, as `autograder grade` leaves it."""
    (week.root / "grading" / "submitted" / student / WEEK).mkdir(parents=True)
    gradebook.add_student(student, **who)
    submission = gradebook.add_submission(WEEK, student, timestamp=DUE + late)
    grades = {grade.name: grade for notebook in submission.notebooks for grade in notebook.grades}
    for each in verdicts:
        grades[f"check-{each.exercise}"].auto_score = each.points
        grades[f"check-{each.exercise}"].needs_manual_grade = False
    for notebook in submission.notebooks:
        notebook.late_submission_penalty = 1.5 if late else 0.0
    gradebook.db.commit()
    provenance = {"isolation": "plain process", "graded": "2026-03-03", "version": "0.1"}
    write(week.root, WEEK, student, Record(verdicts, [], provenance))
    return grades


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """The tags and the text of a page, as a browser reads them."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def page_of(week: Week) -> Page:
    page = (write_report(week) / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|url)\s*[=(]\s*["']?(?!#|\))""", page.split("</style>")[1].replace("url(#", "#"))
    links = [attrs["href"] for tag, attrs in Page(page).tags if tag in ("a", "link") and "href" in attrs]
    assert not [link for link in links if ":" in link or link.startswith("//")]
    return Page(page)


def test_points_come_from_the_gradebook_and_causes_from_the_verdicts(week, gradebook):
    add(week, gradebook, "ada", NAMED, first_name="Ada", last_name="Zuse")
    grades = add(week, gradebook, "ben", NAMED, late=timedelta(days=2), first_name="Ben", last_name="Abel")
    grades["check-add"].manual_score = 3.0
    grades["written-why"].manual_score = 2.0
    grades["written-why"].needs_manual_grade = False
    add(week, gradebook, "cleo", RIGHT)
    gradebook.add_student("dora", first_name="Dora", last_name="Absent")
    (week.root / "grading" / "submitted" / "emil" / WEEK).mkdir(parents=True)
    gradebook.db.commit()

    page = page_of(week)
    rows = {row["student"]: row for row in read(week.root / "grading/reports" / WEEK / "scores.csv")}
    assert [row["total"] for row in rows.values()] == ["9.5", "", "10", "", "6"]  # Abel, Absent, cleo, emil, Zuse
    assert rows["ben"] | {"points": "11", "late penalty": "1.5", "points by hand": "5"} == rows["ben"]
    assert (rows["ben"]["add"], rows["ben"]["add: status"], rows["ben"]["waiting for a person"]) == ("3", "wrong", "")
    assert rows["ada"]["waiting for a person"] == "written-why"
    assert [rows[student]["state"] for student in ("cleo", "dora", "emil")] == ["graded", "absent", "ungraded"]
    assert {row["full marks"] for row in rows.values()} == {"13"}  # the stretch exercise is a bonus
    lead = f"2 of 3 students made this mistake in add: {NO_SUM}"
    assert lead in page.text and page.text.index(lead) < page.text.index("median of 13 points")
    assert "2 written answers to why" in page.text
    assert "Isolation: plain process" in page.text
    [mistake] = read(week.root / "grading/reports" / WEEK / "mistakes.csv")
    assert list(mistake.values()) == ["add", "no-sum", "2", "3", NO_SUM, "ben; ada"]


def test_what_an_earlier_mistake_spoils_is_told_apart_from_what_nobody_can_explain(week, gradebook):
    spoiled = [verdict("add"), verdict("scale", "wrong"), verdict("extra", "wrong")]
    alone = [verdict("add", "wrong"), verdict("scale"), verdict("extra", "wrong")]
    for student, verdicts in {"ada": spoiled, "ben": spoiled, "cleo": alone}.items():
        add(week, gradebook, student, verdicts)
    report = read_report(week)
    counts = {column.name: report.counts(column) for column in report.exercises}
    assert counts["extra"] == {"follows": 2, "unnamed": 1} and counts["scale"] == {"unnamed": 2, "right": 1}
    unexplained = [sentence.split(" wrong in")[0] for sentence in report.to_teach]
    assert unexplained == ["2 of 3 students have scale"]


def test_right_given_an_earlier_mistake_is_an_outcome_of_its_own(week, gradebook):
    two = verdict("add", "wrong", mistakes=("no-sum", "other"), named=(NO_SUM, "Another."))
    given = verdict("extra", given="scale")
    add(week, gradebook, "ada", [two, verdict("scale", "wrong", mistakes=("m",), named=("Scaled.",)), given])
    add(week, gradebook, "ben", [verdict("add"), verdict("scale"), verdict("extra")])
    assert read_record(week.root, WEEK, "ada").verdicts[2] == given
    report = read_report(week)
    assert report.counts(report.exercises[2]) == {"given": 1, "right": 1}
    assert [column.name for column in report.by_difficulty] == ["add", "scale", "extra"]
    assert "extra 2 right" in (page := write_report(week) / "index.html").read_text(encoding="utf-8")
    assert "right, given an earlier mistake, 2 points" in Page(page.read_text(encoding="utf-8")).text
    assert [row["extra: status"] for row in read(page.with_name("scores.csv"))] == ["passed given scale", "passed"]
    assert {row["what was done"] for row in read(page.with_name("mistakes.csv"))} == {NO_SUM, "Another.", "Scaled."}


def test_withheld_points_wait_until_a_person_decides(week, gradebook):
    forbidden = verdict("scale", "forbidden", message="Without autograd, please.")
    grades = add(week, gradebook, "ada", [verdict("add"), forbidden, verdict("extra")])
    assert "scale: points withheld. Without autograd, please." in page_of(week).text
    grades["check-scale"].manual_score = 0.0
    gradebook.db.commit()
    assert "points withheld. " not in page_of(week).text


def test_each_picture_has_alt_text_and_ids_of_its_own(week, gradebook):
    add(week, gradebook, "ada", NAMED)
    first = (write_report(week) / "index.html").read_text(encoding="utf-8")
    assert first == (write_report(week) / "index.html").read_text(encoding="utf-8")
    tags = Page(first).tags
    svgs = [attrs for tag, attrs in tags if tag == "svg"]
    assert len(svgs) == 6 and all(attrs["role"] == "img" and attrs["aria-label"] for attrs in svgs)
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', first))
    assert used and used <= set(ids)


def test_an_empty_class_one_student_and_nobody_right(week, gradebook):
    assert "nobody on the roster" in page_of(week).text
    gradebook.add_student("ada")
    assert "Nobody has been graded yet." in page_of(week).text
    assert read(week.root / "grading/reports" / WEEK / "mistakes.csv") == []
    gradebook.remove_student("ada")
    add(week, gradebook, "ada", [verdict("add", "error"), verdict("scale", "wrong"), verdict("extra", "crashed")])
    page = page_of(week)
    assert "No mistake is shared" in page.text and "1 of 1 students graded" in page.text


def test_names_are_text_and_no_formulas(week, gradebook):
    names = {"o": ("<b>O'Neil</b>", 'Zoë, "Z"'), "x": ("=cmd|' /C calc'!A0", "\t@SUM(1)"), "a&b": ("李", "小龍")}
    for student, (last, first) in names.items():
        add(week, gradebook, student, RIGHT, first_name=first, last_name=last)
    page = page_of(week)
    assert 'Zoë, "Z" <b>O\'Neil</b>' in page.text and not [tag for tag, _ in page.tags if tag == "b"]
    folder = week.root / "grading" / "reports" / WEEK
    rows = {row["student"]: row for row in read(folder / "scores.csv")}
    assert (rows["o"]["last name"], rows["o"]["first name"]) == names["o"]
    assert (rows["x"]["last name"], rows["x"]["first name"]) == ("'=cmd|' /C calc'!A0", "'@SUM(1)")
    for path in folder.glob("*.csv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row if len(cell) > 1]
        assert cells and not [cell for cell in cells if cell[0] in "=+-@\t\r"], path


def test_learning_management_systems_get_the_columns_they_ask_for():
    ada = Score("ada", "Lovelace", "Ada", "ada@example.org", "1815", 7.125)
    none = Score("ben", "", "", "", "x12", None)
    header, possible, *rows = canvas_rows("week", 10.0, [ada, none])
    assert header == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "week"]
    assert possible[0] == "Points Possible" and possible[-1] == "10"
    assert rows == [["Lovelace, Ada", "1815", "ada", "ada", "", "7.12"], ["ben", "", "ben", "ben", "", ""]]
    header, *rows = moodle_rows("week", [ada, none])
    assert header == ["username", "email", "idnumber", "week"]
    assert rows == [["ada", "ada@example.org", "1815", "7.12"], ["ben", "", "x12", "-"]]


@pytest.mark.parametrize(
    ("value", "cell"),
    [("=1+1", "'=1+1"), ("-", "-"), ("a\r\nb", "a b"), (" +1", "'+1"), ("＝1", "'＝1"), (None, ""), (-1.5, -1.5)],
)
def test_safe_cells(value, cell):
    assert safe(value) == cell


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (2.0, "2"), (2.50, "2.5"), (10.0, "10"), (None, "")])
def test_number(value, text):
    assert number(value) == text


def test_nothing_graded_is_one_clear_sentence(week, empty_gradebook):
    with pytest.raises(CourseError, match="no gradebook yet"):
        read_report(week)
    assert not (week.root / "grading" / "reports").exists()
    (week.root / "grading").mkdir(exist_ok=True)
    shutil.copy(empty_gradebook, week.root / "grading")
    with pytest.raises(CourseError, match="Nothing of week09_toy is in the gradebook"):
        read_report(week)
