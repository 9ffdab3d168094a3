"""What is installed where: environment.yml, constraints, the base install, the published tree."""

import json
import os
import re
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from nbformat.v4 import new_notebook
from packaging.requirements import Requirement

from autograder.environment import environment_yml, requirements
from autograder.errors import CourseError
from autograder.publish import public_files, publish, searched
from autograder.release import leaks, private_lines
from autograder.submission import filled
from autograder.week import find_week, weeks_of


def pinned(root: Path) -> dict[str, str]:
    lines = (root / "constraints.txt").read_text().split()
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}


def test_environment_yml_is_generated_from_pyproject(root: Path):
    assert (root / "environment.yml").read_text() == environment_yml(root / "pyproject.toml")


def test_the_pip_section_is_accepted_by_a_fresh_venv(root: Path, tmp_path: Path):
    section = yaml.safe_load((root / "environment.yml").read_text())["dependencies"][-1]["pip"]
    assert section == requirements(root / "pyproject.toml")
    listing = tmp_path / "requirements.txt"
    listing.write_text("\n".join(section))
    venv.create(tmp_path / "venv", with_pip=True)
    command = [
        tmp_path / "venv/bin/pip",
        "install",
        "--dry-run",
        "--quiet",
        "-r",
        listing,
        "-c",
        root / "constraints.txt",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_constraints_pin_everything_that_is_installed(root: Path):
    pins, seen = pinned(root), set()

    def walk(name: str) -> None:
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in seen:
            return
        seen.add(key)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            return  # a requirement for another platform or Python
        for requirement in map(Requirement, found.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                walk(requirement.name)
        if key != "rnn-to-transformers":
            assert pins.get(key) == found.version.split("+")[0], (
                f"{key} {found.version} is not what constraints.txt says"
            )

    for line in requirements(root / "pyproject.toml"):
        walk(re.match(r"[\w.-]+", line).group())
    assert len(seen) > 50


def test_importing_course_needs_no_grader_package(root: Path):
    code = (
        "import sys; import course.check, course.data, course.train, course.plots, course.drives.week01_rnn;"
        "print(sorted({'nbgrader', 'nbclient', 'jupytext', 'typer', 'jupyterlab', 'autograder'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr


RUNNER = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for source in json.load(open(sys.argv[1])):
    result = shell.run_cell(source)
    if not result.success:
        sys.exit(f"cell failed: {source[:200]}")
print("every cell ran")
"""


@pytest.fixture(scope="module")
def base_python(tmp_path_factory) -> Path:
    """The python of a venv with the base install alone, with the IPython that Colab has."""
    root = Path(__file__).parents[2]
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    versions = (root / "constraints.txt").read_text().split()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(line for line in versions if not line.startswith("ipython==")))
    command = [python, "-m", "pip", "install", "--quiet", "-c", constraints, root, "ipython==7.34.0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return python


def run_cells(python: Path, folder: Path, cells: list[str]) -> subprocess.CompletedProcess:
    (folder / "cells.json").write_text(json.dumps(cells))
    (folder / "runner.py").write_text(RUNNER)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    command = [python, "runner.py", "cells.json"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_the_base_install_runs_the_graded_part_and_its_checks(root: Path, tmp_path: Path, base_python: Path):
    listing = subprocess.run([base_python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True).stdout
    names = {entry["name"].lower() for entry in json.loads(listing)}
    assert not names & {"nbgrader", "jupyterlab", "nbclient", "jupytext", "typer", "ipykernel"}

    import nbformat

    week = find_week(root, "week01")
    notebook = nbformat.read(root / "assignments" / week.name / f"{week.name}.ipynb", as_version=4)
    solved = filled(notebook, {exercise.name: week.solution(exercise.name) for exercise in week.exercises})
    artifacts = {artifact.name for artifact in week.artifacts}
    cells = [
        cell.source
        for cell in solved.cells
        if cell.cell_type == "code"
        and "skip-execution" not in cell.metadata.get("tags", [])
        and cell.metadata.get("course", {}).get("exercise") not in artifacts
    ]
    done = run_cells(base_python, tmp_path, cells)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("all ") >= len(week.exercises) and "every cell ran" in done.stdout


def test_a_wrong_answer_is_named_in_the_base_install(root: Path, tmp_path: Path, base_python: Path):
    week = find_week(root, "week01")
    exercise = week.exercise("rnn_step")
    mistake = exercise.mistakes[0]
    given = [source for name, source in week.code_cells if not name][:1]
    cells = [*given, week.mistaken(exercise, mistake), 'check("rnn_step")']
    done = run_cells(base_python, tmp_path, cells)
    assert done.returncode != 0
    assert mistake.message in done.stdout and "CheckFailed" in done.stdout + done.stderr


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_the_published_tree_has_nothing_private(small_course: Path, tmp_path: Path):
    git(small_course, "init", "-q")
    (small_course / "course" / "notes.md").write_text("harmless\n")
    git(small_course, "add", "-A")
    git(small_course, "commit", "-qm", "all")
    target = tmp_path / "public"
    assert publish(small_course, target) == 2
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == ["nbgrader_config.py", "notes.md"]
    with pytest.raises(CourseError, match="is not empty"):
        publish(small_course, target)
    line = sorted(private_lines(find_week(small_course, "week01")))[0]
    (small_course / "course" / "notes.md").write_text(f"{line}\n")
    with pytest.raises(CourseError, match="Nothing was published"):
        publish(small_course, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_what_would_be_published_of_this_course_holds_no_solution(root: Path):
    for week in weeks_of(root):
        assert leaks(week, new_notebook(), [root / path for path in searched(week, public_files(root))]) == []
