"""Release: the same bytes every time, nbgrader's metadata right, nothing private in it."""

import json
from pathlib import Path

import nbformat
import pytest
import torch
from typer.testing import CliRunner

from autograder.cli import app
from autograder.errors import CourseError
from autograder.release import _last_bits, colab_cell, leaks, notebook_bytes, private_lines, release, source_notebook
from autograder.week import Week, find_week, weeks_of
from course.check import Bank, compare
from course.drives import slug

WEEKS = [week.name for week in weeks_of(Path(__file__).parents[2])]


def run(root: Path, *arguments: str):
    import os

    before = Path.cwd()
    os.chdir(root)
    try:
        return CliRunner().invoke(app, list(arguments))
    finally:
        os.chdir(before)


@pytest.mark.parametrize("name", WEEKS)
def test_the_committed_release_is_what_the_master_gives(root: Path, name: str):
    assert release(find_week(root, name)).differences() == []


def test_released_twice_is_the_same_bytes(small_course: Path):
    week = find_week(small_course, "week01")
    assert run(small_course, "release", "week01").exit_code == 0
    first = {path: path.read_bytes() for path in small_course.rglob("*") if path.is_file()}
    built = release(Week(week.folder))
    for path in built.cases_folder.iterdir():
        path.unlink()
    built.write()
    assert {path: path.read_bytes() for path in small_course.rglob("*") if path.is_file()} == first


def test_check_sees_an_edited_notebook_and_a_missing_case(small_course: Path):
    assert run(small_course, "release", "week01").exit_code == 0
    assert run(small_course, "release", "--all", "--check").exit_code == 0
    built = release(find_week(small_course, "week01"))
    built.assignment_path.write_text(built.assignment_path.read_text().replace("def rnn_step", "def rnn_step_"))
    result = run(small_course, "release", "--all", "--check")
    assert result.exit_code == 1 and "is not what the master notebook gives" in result.output
    built.write()
    (built.cases_folder / "rnn-step.safetensors").unlink()
    result = run(small_course, "release", "--all", "--check")
    assert result.exit_code == 1 and "rnn-step.safetensors is missing" in result.output


def test_a_leak_in_the_last_release_does_not_stop_the_one_that_mends_it(small_course: Path):
    week = find_week(small_course, "week01")
    built = release(week)
    built.write()
    nbformat.write(source_notebook(week), built.assignment_path)  # with its solutions
    validated = run(small_course, "validate", "week01")
    assert validated.exit_code == 1 and "has a line of the solution" in validated.output
    assert run(small_course, "release", "week01").exit_code == 0
    assert "### BEGIN SOLUTION" not in built.assignment_path.read_text()


def test_noise_of_another_processor_is_no_change():
    noise = 3e-9 * torch.randn(4, generator=torch.Generator().manual_seed(0))
    here = {"output": torch.tensor([0.5, -2.0]), "gradient that is zero but for rounding": noise}
    there = {"output": here["output"] * (1 + 1e-6), "gradient that is zero but for rounding": noise.flip(0)}
    assert compare(here, there, _last_bits(here)).agrees
    changed = here | {"output": torch.tensor([0.5, -2.01])}
    assert not compare(here, changed, _last_bits(here)).agrees


def test_changed_public_cases_are_seen(small_course: Path):
    built = release(find_week(small_course, "week01"))
    built.write()
    bank = built.banks[0]
    bank.cases[0].answer["h_next" if "h_next" in bank.cases[0].answer else next(iter(bank.cases[0].answer))] += 0.1
    bank.save(built.cases_folder)
    assert release(find_week(small_course, "week01")).differences() == [
        "the public cases of rnn_step are not what exercises.py gives"
    ]


@pytest.mark.parametrize("name", WEEKS)
def test_cells_of_the_released_notebook(root: Path, name: str):
    week = find_week(root, name)
    path = root / "assignments" / name / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.read_bytes() == notebook_bytes(json.loads(path.read_bytes()))
    cells = {cell.id: cell for cell in notebook.cells}
    assert len(cells) == len(notebook.cells)
    assert notebook.cells[0].id == "setup" and "google.colab" in notebook.cells[0].source
    for exercise in week.exercises:
        solution, check = cells[exercise.slug], cells[f"check-{exercise.slug}"]
        assert "raise NotImplementedError()" in solution.source and "SOLUTION" not in solution.source
        assert solution.metadata.nbgrader.solution and not solution.metadata.nbgrader.locked
        assert check.metadata.nbgrader.points == exercise.points and check.metadata.nbgrader.locked
        assert check.source == f'check("{exercise.name}")'
        assert Bank.load(root / "course" / "cases" / name, exercise.name).exercise == exercise.name
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
        role = cell.metadata.get("course", {}).get("role")
        assert ("skip-execution" in cell.metadata.get("tags", [])) == (role in ("experiment", "look"))


def test_a_solution_line_in_the_released_notebook_is_a_leak(small_course: Path):
    week = find_week(small_course, "week01")
    built = release(week)
    assert leaks(week, built.notebook, []) == []
    line = sorted(private_lines(week))[0]
    built.notebook.cells[-1].source += f"\n    {line}  # helpful"
    assert len(leaks(week, built.notebook, [])) == 1


def test_a_solution_line_and_the_secret_in_public_files_are_leaks(small_course: Path):
    week = find_week(small_course, "week01")
    notebook = release(week).notebook
    (small_course / "grading").mkdir(exist_ok=True)
    (small_course / "grading" / "secret").write_text("0123456789abcdef\n")
    public = small_course / "course"
    (public / "notes.md").write_text("harmless\n")
    assert leaks(week, notebook, [public]) == []
    (public / "notes.md").write_text(f"{sorted(private_lines(week))[0]}\nseed 0123456789abcdef\n")
    assert len(leaks(week, notebook, [public])) == 2


def test_master_and_exercises_must_name_the_same(small_course: Path):
    week = find_week(small_course, "week01")
    master = week.folder / "week01_rnn.py"
    master.write_text(master.read_text().replace('check="rnn_step"', 'check="rnn_stop"'))
    with pytest.raises(CourseError, match="rnn_stop"):
        source_notebook(Week(week.folder))


def test_the_colab_cell_installs_from_the_one_setting():
    assert "git+https://example.org/course" in colab_cell("https://example.org/course")
    assert "pip install" not in colab_cell(None) and "ask your instructor" in colab_cell(None)


def test_unknown_week_is_one_sentence(small_course: Path):
    result = run(small_course, "release", "week77")
    assert isinstance(result.exception, CourseError)
    assert str(result.exception) == "No week begins with 'week77'. Weeks here: week01_rnn."


def test_slug():
    assert slug("NameClassifier.forward") == "nameclassifier-forward"
    assert slug("rnn_step") == "rnn-step"
