"""The whole way as a new student goes it, in a real browser: fetch, solve wrongly, read, correct, validate, submit; then
the instructor collects and grades, and both look at what came of it. Screenshots go to build/screenshots/."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from autograder.week import find_week

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "screenshots"
WEEK = "week01_rnn"
TOKEN = "browser-test"
CHROMIUM = next(
    (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
]
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": '{"windowingMode": "none"}',
    "@jupyterlab/apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}

pytestmark = pytest.mark.browser
if CHROMIUM is None and not os.environ.get("CI"):
    pytestmark = [pytest.mark.browser, pytest.mark.skip(reason="needs chromium")]


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "JUPYTER_TOKEN": TOKEN,
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def call(course: Path, *line: str) -> str:
    done = subprocess.run(line, cwd=course, env=environment(course.parent), capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(line)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A root of its own, so that the test never touches a real class; sources and releases are the real ones."""
    course = tmp_path_factory.mktemp("lab") / "course"
    course.mkdir()
    shutil.copyfile(ROOT / "nbgrader_config.py", course / "nbgrader_config.py")
    for folder in ("solutions", "assignments", "course"):
        (course / folder).symlink_to(ROOT / folder)
    for name, text in SETTINGS.items():
        path = course.parent / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return course


@pytest.fixture(scope="module")
def server(course: Path):
    """JupyterLab as `make lab` starts it; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (course.parent / "lab.log").open("w")
    command = [sys.executable, "-m", "autograder.cli", "lab", "week01", "--no-browser", "--port", str(port)]
    lab = subprocess.Popen(command, cwd=course, env=environment(course.parent), stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert lab.poll() is None, (course.parent / "lab.log").read_text()
            try:
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        lab.terminate()
        lab.wait(30)


@pytest.fixture(scope="module")
def page():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 950})
        page.set_default_timeout(90_000)
        yield page
        shoot(page, "last")  # what was on the screen where the test ended, well or not
        browser.close()


def shoot(page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def open_menu(page, item: str) -> None:
    page.locator(".lm-MenuBar-itemLabel", has_text="Nbgrader").click()
    page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()


def cell(page, text: str):
    return page.locator(".jp-NotebookPanel:visible .jp-CodeCell", has_text=text).first


def rewrite(page, text: str, source: str) -> None:
    """Replaces the source of the cell that contains `text`."""
    cell(page, text).locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(source)
    page.keyboard.press("Control+Enter")


def output_of_check(page, exercise: str, expected: str) -> str:
    """Runs a check cell, waits until `expected` stands in its output, and returns the output's text."""
    box = cell(page, f'check("{exercise}")')
    box.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    box.locator(".jp-OutputArea-output", has_text=expected).first.wait_for()
    return box.locator(".jp-OutputArea").inner_text()


def test_from_fetch_to_feedback(course: Path, server: str, page):
    week = find_week(ROOT, "week01")
    exercise = week.exercise("rnn_step")
    mistake = exercise.mistakes[0]

    # The assignment list offers the week; fetching and opening it shows the released notebook.
    shutil.rmtree(course / "grading" / "work" / WEEK)  # `autograder lab` has fetched it already
    page.goto(f"{server}/lab?token={TOKEN}")
    page.locator(".lm-MenuBar-itemLabel", has_text="Nbgrader").wait_for()
    open_menu(page, "Assignment List")
    page.get_by_role("button", name="Fetch").first.click()
    page.get_by_role("button", name="Submit").first.wait_for()
    shoot(page, "1-assignment-list")
    page.goto(f"{server}/lab/tree/grading/work/{WEEK}/{WEEK}.ipynb?token={TOKEN}")
    cell(page, "def rnn_step(").wait_for()
    page.get_by_text("| Idle").wait_for()  # the kernel has started
    shoot(page, "2-released-notebook")

    # Solved wrongly, the check names the mistake; corrected, it is content.
    cell(page, "checks_for(").locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    rewrite(page, "def rnn_step(", week.mistaken(exercise, mistake))
    text = output_of_check(page, "rnn_step", mistake.message)
    assert "cases right" in text and "CheckFailed" in text
    cell(page, 'check("rnn_step")').scroll_into_view_if_needed()
    shoot(page, "3-mistake-named")
    rewrite(
        page,
        "def rnn_step(",
        week.solution("rnn_step").replace("### BEGIN SOLUTION", "").replace("### END SOLUTION", ""),
    )
    assert "✓ rnn_step" in output_of_check(page, "rnn_step", "✓ rnn_step")
    cell(page, 'check("rnn_step")').scroll_into_view_if_needed()
    shoot(page, "4-corrected")

    # The validate button runs the checks again: what is not written yet fails, rnn_step does not.
    page.keyboard.press("Control+S")
    page.wait_for_timeout(1500)
    page.locator(".jp-NotebookPanel:visible .jp-NotebookPanel-toolbar").get_by_text("Validate", exact=True).click()
    dialog = page.locator(".jp-Dialog-content", has_text="Validation Results")
    dialog.wait_for()
    shoot(page, "5-validate")
    told = dialog.inner_text()
    assert "rnn_forward: not written yet" in told and 'check("rnn_step")' not in told
    dialog.get_by_role("button", name="Ok").click()

    # Submitted through the exchange, collected, graded.
    open_menu(page, "Assignment List")
    page.get_by_role("button", name="Submit").first.click()
    page.wait_for_timeout(3000)
    shoot(page, "6-submitted")
    call(course, sys.executable, "-m", "nbgrader", "collect", WEEK)
    call(course, sys.executable, "-m", "autograder.cli", "grade", WEEK)

    # The feedback page has the points and the verdicts, and no hidden value; formgrader has the score.
    feedback = next((course / "grading" / "feedback").rglob(f"{WEEK}.html"))
    page.goto(feedback.as_uri())
    page.get_by_text("✓ rnn_step").first.wait_for()
    assert f"Score: {exercise.points:g}" in page.content()
    assert "expected  " not in page.inner_text("body")
    shoot(page, "7-feedback")
    page.goto(f"{server}/formgrader/gradebook/{WEEK}?token={TOKEN}")
    page.get_by_text(WEEK).first.wait_for()
    page.wait_for_timeout(2000)
    shoot(page, "8-formgrader")
    page.goto(f"{server}/formgrader/gradebook/{WEEK}/{WEEK}?token={TOKEN}")
    page.locator("table tbody tr").first.wait_for()
    page.wait_for_timeout(2000)
    shoot(page, "9-formgrader-submissions")
    assert f"{exercise.points:g}" in page.locator("table tbody tr").first.inner_text()
