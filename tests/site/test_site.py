"""The course's site as a reader gets it: built once with warnings as errors and without a network, then opened in Chromium.

axe/axe.min.js is axe-core 4.14.1 (MPL-2.0, see axe/LICENSE), which looks for what keeps people from reading a page.
"""

import base64
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from autograder.release import leaks
from autograder.site import BRANCH, Row, matrix
from autograder.site_results import SECTIONS
from autograder.week import weeks_of

ROOT = Path(__file__).parents[2]
AXE = Path(__file__).with_name("axe") / "axe.min.js"
CHROMIUM = next(
    (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MOST_SECONDS = 120  # of a lecture, top to bottom, two at a time on two cores
PHONE = 375  # the width of a small one
browser_test = pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="needs chromium")


def without_network() -> list[str]:
    """What runs a command where there is no network but loopback; nothing where bubblewrap cannot."""
    prefix = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent"]
    can = shutil.which("bwrap") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    return prefix if can else []


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The folder that holds site/, site-pages/ and site-seconds.json, built as `make site` does."""
    into = tmp_path_factory.mktemp("site")
    command = [*without_network(), sys.executable, "-m", "autograder.site", "--into", str(into)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return into


@pytest.fixture(scope="session")
def pages(built: Path) -> list[str]:
    """Every page by its path in the site."""
    paths = [path.relative_to(built / "site") for path in (built / "site").rglob("*.html")]
    return sorted(path.as_posix() for path in paths if path.parts[0] != "_static")  # the theme leaves templates there


@pytest.fixture(scope="session")
def soups(built: Path, pages: list[str]) -> dict[str, BeautifulSoup]:
    return {page: BeautifulSoup((built / "site" / page).read_text(), "lxml") for page in pages}


# -------------------------------------------------------------------------------------------------- what is built


def test_every_lecture_runs_top_to_bottom_in_two_minutes(built: Path):
    seconds = json.loads((built / "site-seconds.json").read_text())
    assert set(seconds) == {f"course/{path.parent.name}/lecture" for path in ROOT.glob("course/week*/lecture.ipynb")}
    assert {name: took for name, took in seconds.items() if took > MOST_SECONDS} == {}


def test_there_is_a_page_for_everything(pages: list[str]):
    guides = "setup", "instructors", "grading", "security", "kill_matrix", "results", "api"
    weeks = [path.name for path in sorted(ROOT.glob("assignments/week*"))]
    expected = ["index", "course/syllabus", "course/data/SOURCES", *(f"docs/{guide}" for guide in guides)]
    expected += [f"course/{week}/lecture" for week in weeks] + [f"assignments/{week}/{week}" for week in weeks]
    assert len(weeks) == 9
    assert {f"{name}.html" for name in expected} <= set(pages)


def test_results_are_drawn_and_told(soups):
    pictures = soups["docs/results.html"].select("article img")
    measured = {path.parent.name for path in ROOT.glob("solutions/week*/results.json")}
    assert len(pictures) == sum(set(weeks) <= measured for _, weeks in SECTIONS)
    assert all(re.search(r"\d", picture["alt"]) for picture in pictures)  # what they show, figures among it


def test_every_graded_model_is_among_the_results(soups):
    graded = {(str(int(week.name[4:6])), artifact.name) for week in weeks_of(ROOT) for artifact in week.artifacts}
    rows = [[cell.get_text() for cell in row.select("td")] for row in soups["docs/results.html"].select("article tr")]
    assert graded and graded <= {tuple(row[:2]) for row in rows}


def test_the_landing_page_has_a_card_for_each_week(soups):
    cards = soups["index.html"].select(".weeks .sd-card")
    assert len(cards) == 8
    for number, card in enumerate(cards, 1):
        links = [link["href"] for link in card.select("a")]
        assert [link.startswith((f"course/week0{number}", f"assignments/week0{number}")) for link in links] == [
            True
        ] * 2


def test_nothing_private_is_on_the_site(built: Path):
    for week in weeks_of(ROOT):  # other weeks' notebooks give lines that are this one's to write
        own = [built / "site-pages" / folder / week.name for folder in ("course", "assignments")]
        assert leaks(week, new_notebook(), [built / "site-pages" / "docs", *own]) == []
    names = {path.name for path in (built / "site-pages").rglob("*")}
    assert not names & {"exercises.py", "alternates.py", "results.json"}


def test_notebooks_can_be_downloaded_as_they_are(built: Path, soups):
    for source in [*ROOT.glob("course/week*/lecture.ipynb"), *ROOT.glob("assignments/*/*.ipynb")]:
        name = source.relative_to(ROOT)
        button = soups[name.with_suffix(".html").as_posix()].select_one("a.btn-download-source-button")
        target = (built / "site" / name.parent / button["href"]).resolve()
        assert target.read_bytes() == source.read_bytes()


def test_links_lead_somewhere(built: Path, soups):
    site = built / "site"
    ids = {page: {tag["id"] for tag in soup.select("[id]")} for page, soup in soups.items()}
    dead = []
    for page, soup in soups.items():
        for tag in soup.select("[href], [src]"):
            address = tag.get("href") or tag.get("src") or ""
            url = urlsplit(address)
            if url.scheme in ("http", "https", "mailto") and tag.name == "a":
                continue
            if url.scheme == "data":
                continue
            target = (site / page).parent / unquote(url.path) if url.path else site / page
            target = Path(os.path.normpath(target))
            there = target.is_relative_to(site) and target.is_file() and not url.netloc
            if there and url.fragment and target.suffix == ".html":
                there = unquote(url.fragment) in ids[target.relative_to(site).as_posix()]
            if not there and address != "#":
                dead.append(f"{page}: {address}")
    assert not dead, "\n".join(sorted(set(dead)))


def test_without_a_repository_no_button_needs_one(soups):
    for page, soup in soups.items():
        assert not soup.select('[href*="colab.research.google.com"]'), page
        assert not soup.select(".header-article__inner [href^=http]"), page


def test_kill_matrix_is_what_the_public_cases_say(soups):
    rows: list[Row] = matrix(ROOT / "course" / "cases" / "week01_rnn")
    table = soups["docs/kill_matrix.html"].select_one("table")
    cells = next(
        [cell.text for cell in row.select("td")] for row in table.select("tbody tr") if "Week 1" in row.td.text
    )
    assert cells[1:] == [str(len({row.exercise for row in rows})), *[str(len(rows))] * 3]
    assert all(row.refused and row.named for row in rows)


# ------------------------------------------------------------------------------------ a small site with everything

PIXEL = base64.b64encode(
    base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
).decode()


def drawn(pictures: int, alt: str | None):
    cell = new_code_cell("draw()", execution_count=1, metadata={"mystnb": {"image": {"alt": alt}}} if alt else {})
    data = {"image/png": PIXEL, "text/plain": "<Figure>"}
    cell.outputs = [new_output("display_data", data=data) for _ in range(pictures)]
    return cell


def test_buttons_with_a_repository_and_texts_of_pictures(tmp_path: Path):
    """A small site whose repository is set: one notebook, with its pictures, which is not executed."""
    cells = [drawn(1, "one"), drawn(2, "first\nsecond"), drawn(2, "both"), drawn(1, None), drawn(3, "a\nb")]
    source = new_notebook(cells=[new_markdown_cell("# A week"), *cells], metadata={"language_info": {"name": "python"}})
    name = "assignments/week01_rnn/week01_rnn"
    (tmp_path / name).parent.mkdir(parents=True)
    nbformat.write(source, tmp_path / f"{name}.ipynb")
    (tmp_path / "index.md").write_text(f"# Here\n\n```{{toctree}}\n{name}\n```\n")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-c", ROOT / "docs"]
    sphinx += ["-D", "course_repository=https://github.com/owner/course.git"]
    done = subprocess.run([*sphinx, tmp_path, tmp_path / "site"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = BeautifulSoup((tmp_path / "site" / f"{name}.html").read_text(), "lxml")
    colab = f"https://colab.research.google.com/github/owner/course/blob/{BRANCH}/{name}.ipynb"
    assert [link["href"] for link in page.select("[href*=colab]")] == [colab]
    assert page.select('.header-article__inner [href="https://github.com/owner/course"]')
    texts = [image.get("alt", "") for image in page.select("article .cell img")]
    assert texts == ["one", "first", "second", "both", "both", "", "a", "b", ""]
    warnings = done.stderr.strip().splitlines()
    assert [("without alt text" in line, "3 pictures, and alt text for 2" in line) for line in warnings] == [
        (False, True),
        (True, False),
        (True, False),
    ]


# ------------------------------------------------------------------------------------------------------- a browser


@pytest.fixture(scope="session")
def address(built: Path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    handler = functools.partial(Quiet, directory=built / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


STILL = """document.addEventListener('DOMContentLoaded', () => {
  const style = document.createElement('style');
  style.textContent = '* { transition: none !important; }';
  document.head.append(style);
});"""
MATHS = """async () => {
  const places = [...document.querySelectorAll('.math')];
  if (!places.length) return [];
  await MathJax.startup.promise;
  const bad = places.filter(p => !p.querySelector('mjx-container') || p.querySelector('mjx-merror, merror'));
  return bad.map(place => place.textContent.slice(0, 60));
}"""
TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const scrolls = e => e && e.tagName !== 'ARTICLE' && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
  const wide = [...document.querySelectorAll('article *')]
    .filter(e => e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement));
  return [`${document.documentElement.scrollWidth} px wide`, ...wide.slice(0, 3).map(e => e.outerHTML.slice(0, 120))];
}"""
FAULTS = """async rules => {
  const options = rules ? {runOnly: {type: 'rule', values: rules}} : {};
  const found = await axe.run(document, {...options, resultTypes: ['violations']});
  return found.violations.filter(v => ['serious', 'critical'].includes(v.impact))
    .map(v => `${v.id}: ${v.nodes.length} times: ${v.nodes[0].html.slice(0, 160)}`);
}"""


@browser_test
@pytest.mark.browser
def test_every_page_in_a_browser(address: str, browser, pages: list[str]):
    """Nothing is asked of another host, nothing fails, maths is drawn, light and dark are readable, a phone is wide enough."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    context.add_init_script(path=AXE)
    context.add_init_script(STILL)
    page, told = context.new_page(), []
    page.on("console", lambda message: told.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: told.append(f"error: {error}"))
    page.on("requestfailed", lambda request: told.append(f"failed: {request.url}"))
    page.on("response", lambda answer: told.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None)
    page.on("request", lambda r: told.append(f"asks {r.url}") if not r.url.startswith((address, "data:")) else None)
    faults = []
    for name in pages:
        told.clear()
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(f"{address}/{name}", wait_until="load")
        told += [f"maths not drawn: {text}" for text in page.evaluate(MATHS)]
        told += [f"light, {fault}" for fault in page.evaluate(FAULTS, None)]
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        told += [f"dark, {fault}" for fault in page.evaluate(FAULTS, ["color-contrast"])]
        page.set_viewport_size({"width": PHONE, "height": 800})
        told += [f"at {PHONE} px: {wide}" for wide in page.evaluate(TOO_WIDE)]
        faults += [f"{name}: {fault}" for fault in told]
    context.close()
    assert not faults, "\n".join(faults)


@browser_test
@pytest.mark.browser
def test_the_keyboard_reaches_everything(address: str, browser):
    page = browser.new_page(viewport={"width": PHONE, "height": 800}, color_scheme="light")
    page.goto(f"{address}/index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").strip() == "Skip to main content"

    def walk_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab never reaches {selector}")

    walk_to(".primary-toggle")
    page.keyboard.press("Enter")
    page.locator("dialog[open] nav").first.wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    walk_to(".theme-switch-button")
    page.keyboard.press("Enter")
    walk_to(".theme-change-button[data-mode=dark]")
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    walk_to("article a")
    page.close()
