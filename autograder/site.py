"""The course's site: `python -m autograder.site` gathers the pages in build/site-pages and lets Sphinx make build/site.

Only what students may read is gathered: the lectures, the released assignments, the Markdown of docs/ and course/, and two
pages that are written here, the kill matrix (from the public cases) and the results (from the figures of each week's
results.json). The pages keep their places in the repository, so that a link works on the site and in the repository;
docs/index.md alone moves, to the root.

The lectures are executed with jupyter-cache. The cache knows a notebook's code only, so that it has a folder of its own for
each state of `course` and each version of PyTorch.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util import logging

from autograder.settings import load_settings

ROOT = Path(__file__).parents[1]
PAGES = (
    "docs/*.md",
    "course/*.md",
    "course/data/SOURCES.md",
    "course/week*/lecture.ipynb",
    "assignments/week*/*.ipynb",
)
BRANCH = "main"

# ------------------------------------------------------------------------------------------------------- gathering


def gather(root: Path, target: Path) -> None:
    """Writes all pages of the course at `root` below `target`, which then holds nothing else. What has not changed stays."""
    from autograder import site_results  # and without matplotlib

    pages = {path.relative_to(root): path.read_bytes() for pattern in PAGES for path in sorted(root.glob(pattern))}
    pages[Path("index.md")] = pages.pop(Path("docs/index.md"))
    pages[Path("docs/kill_matrix.md")] = kill_matrix(root / "course" / "cases").encode()
    results = site_results.pages(root / "solutions", root / "course" / "cases")
    pages |= {Path("docs") / name: data for name, data in results.items()}
    for name, data in pages.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)
    for path in target.rglob("*"):
        if path.is_file() and path.relative_to(target) not in pages:
            path.unlink()


def state(root: Path, *files: Path) -> str:
    """A short name for what a lecture's outputs depend on beside its own code: PyTorch, the package `course`, its data; and
    for what stands in other `files`.
    """
    digest = hashlib.sha256(version("torch").encode() + b"".join(path.read_bytes() for path in files))
    for path in sorted((root / "course").rglob("*")):
        if path.suffix in (".py", ".parquet", ".json", ".safetensors", ".txt"):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


# ----------------------------------------------------------------------------------------------------- kill matrix


@dataclass(frozen=True)
class Row:
    """One known mistake of an exercise: on how many of its public cases it is refused, and whether it is named as itself."""

    exercise: str
    mistake: str
    refused: int
    cases: int
    named: bool


def matrix(folder: Path) -> list[Row]:
    """The mistakes of one week, from its public cases: what they answer is stored there beside the right answers."""
    from course.check import Bank, compare, fitting  # Sphinx itself does without PyTorch

    rows = []
    for stored in sorted(folder.glob("*.safetensors")):
        bank = Bank.load(folder, stored.stem)
        for name in bank.messages:
            answers = [case.mistakes[name] for case in bank.cases]
            pairs = zip(bank.cases, answers, strict=True)
            refused = sum(not compare(case.answer, answer, case.tolerance).agrees for case, answer in pairs)
            rows.append(Row(bank.exercise, name, refused, len(bank.cases), fitting(bank, answers) == [name]))
    return rows


def kill_matrix(cases: Path) -> str:
    """The page in Markdown. `cases` is course/cases."""
    folders = sorted(path for path in cases.iterdir() if path.is_dir())
    with ProcessPoolExecutor(2) as pool:
        weeks = dict(zip((folder.name for folder in folders), pool.map(matrix, folders), strict=True))
    total = [row for rows in weeks.values() for row in rows]
    lines = [
        "# The kill matrix",
        "",
        f"Every exercise carries a bank of plausible wrong answers. There are {len(total):,} of them; "
        f"{sum(row.refused > 0 for row in total):,} are refused by the public cases, and "
        f"{sum(row.named for row in total):,} are named as themselves and as nothing else. This page is computed from the "
        "public cases in `course/cases/` whenever the site is built. `autograder validate` proves the same for the public seed "
        "and four others, and `make test` fails where it does not hold.",
        "",
        "A mistake is **refused** where its answer differs from the right one by more than the tolerance, on one case at "
        "least. It is **named** where its answers on all cases fit no other known mistake.",
        "",
        "| week | exercises | mistakes | refused | named |",
        "|:--|--:|--:|--:|--:|",
        *(f"| {week_name(week)} {_counts(rows)} |" for week, rows in weeks.items()),
    ]
    for week, rows in weeks.items():
        lines += ["", f"## {week_name(week)}", "", "| exercise | mistakes | refused | named |", "|:--|--:|--:|--:|"]
        exercises = list(dict.fromkeys(row.exercise for row in rows))
        lines += [f"| `{name}` {_counts([row for row in rows if row.exercise == name], False)} |" for name in exercises]
        lines += ["", f":::{{dropdown}} {week_name(week)}: each mistake", ""]
        lines += ["| exercise | mistake | refused on | named |", "|:--|:--|:--|:--|"]
        lines += [
            f"| `{row.exercise}` | {row.mistake} | {row.refused} of {row.cases} cases | {'yes' if row.named else 'no'} |"
            for row in rows
        ]
        lines += ["", ":::"]
    return "\n".join(lines) + "\n"


def _counts(rows: list[Row], exercises: bool = True) -> str:
    numbers = [len({row.exercise for row in rows})] if exercises else []
    numbers += [len(rows), sum(row.refused > 0 for row in rows), sum(row.named for row in rows)]
    return "".join(f"| {number} " for number in numbers).rstrip()


def week_name(folder: str) -> str:
    """week02_lstm_gru: Week 2."""
    return f"Week {int(folder[4:6])}"


# ---------------------------------------------------------------------------------------------------------- Sphinx


def repository_options(repository: str | None) -> dict[str, Any]:
    """The theme's options that need the repository's address: none without one, so that no link leads nowhere."""
    if not repository:
        return {}
    return {
        "repository_url": repository.removesuffix("/").removesuffix(".git"),
        "repository_branch": BRANCH,
        "path_to_docs": "",
        "use_repository_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    }


def set_repository(app, config) -> None:
    config.html_theme_options |= repository_options(config.course_repository)


def give_pictures_their_texts(app, doctree: nodes.document) -> None:
    """Hands a cell's alt text, a line for each picture where there are several, to its pictures; warns where one has none."""
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") != "cell_code":
            continue
        texts = cell.get("cell_metadata", {}).get("mystnb", {}).get("image", {}).get("alt", "").strip().splitlines()
        outputs: dict[int, list[nodes.image]] = {}
        for image in cell.findall(nodes.image):
            bundle = image.parent
            while bundle is not cell and bundle.get("nb_element") != "mime_bundle":
                bundle = bundle.parent
            outputs.setdefault(id(image if bundle is cell else bundle), []).append(image)
        if len(texts) > 1 and len(texts) != len(outputs):
            place = (app.env.docname, cell.line)
            logger.warning("%d pictures, and alt text for %d", len(outputs), len(texts), location=place)
        for i, images in enumerate(outputs.values()):
            for image in images:
                image["alt"] = texts[i if len(texts) > 1 else 0] if i < len(texts) or len(texts) == 1 else ""
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            logger.warning("a picture without alt text (see docs/conf.py)", location=image)


def put_the_title_first(app, doctree: nodes.document) -> None:
    """A released notebook begins with the cell that installs the course in Colab: on the page it stands under the title."""
    first = doctree.children[0] if len(doctree.children) > 1 else None
    if isinstance(first, nodes.container) and first.get("cell_metadata", {}).get("course", {}).get("role") == "setup":
        section = doctree.next_node(nodes.section)
        doctree.remove(first)
        section.insert(1, first)


def plain_signature(app, what, name, thing, options, signature: str | None, returns: str | None) -> tuple | None:
    """A default that is made anew each time is written `...`: Sphinx does not read `<factory>` and leaves the types long."""
    return (signature.replace("<factory>", "..."), returns) if signature else None


def keep_columns(app, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Shows as they stand those paragraphs of a docstring that are code or columns: what reStructuredText would run together."""
    text = []
    for paragraph in "\n".join(lines).split("\n\n"):
        columns = any(line.startswith(" ") or re.match(r"\w+ {2,}", line) for line in paragraph.splitlines())
        text += ["::", "", *(f"    {line}" for line in paragraph.splitlines())] if columns else paragraph.splitlines()
        text.append("")
    lines[:] = text


def write_seconds(app, error: Exception | None) -> None:
    """Beside the site, in site-seconds.json, how long each executed notebook took when it was executed."""
    if error is None and app.builder.name == "html":
        found = {name: data["exec_data"] for name, data in app.env.nb_metadata.items() if data.get("exec_data")}
        seconds = {name: round(data["runtime"], 1) for name, data in sorted(found.items())}
        (Path(app.outdir).parent / "site-seconds.json").write_text(json.dumps(seconds, indent=1) + "\n")


logger = logging.getLogger(__name__)


def setup(app) -> dict[str, Any]:
    """What docs/conf.py adds to Sphinx."""
    # Where these have changed, every page is read again.
    app.add_config_value("course_state", state(ROOT, Path(__file__)), "env", types=(str,))
    app.add_config_value("course_repository", load_settings(ROOT).repository or "", "html", types=(str,))
    app.connect("config-inited", set_repository)
    app.connect("autodoc-process-docstring", keep_columns)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("doctree-read", put_the_title_first)
    app.connect("doctree-read", give_pictures_their_texts)
    app.connect("build-finished", write_seconds)
    return {"parallel_read_safe": True}


def main(arguments: Iterable[str] | None = None) -> int:
    from sphinx.cmd.build import main as sphinx

    from course.plots import STILL

    parser = argparse.ArgumentParser(prog="python -m autograder.site", description="Builds the course's site.")
    parser.add_argument("--into", type=Path, default=ROOT / "build", help="the folder in which site/ is made")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "site-cache", help="of executed lectures")
    parser.add_argument("--jobs", type=int, default=2, help="pages that are read, and lectures that run, at a time")
    given = parser.parse_args(arguments)
    pages, target = given.into / "site-pages", given.into / "site"
    gather(ROOT, pages)
    os.environ[STILL] = "1"
    cache = given.cache.resolve() / state(ROOT)
    for old in given.cache.glob("*"):
        if old.name != cache.name:
            shutil.rmtree(old)
    options = ["-W", "-q", "-j", str(given.jobs), "-c", str(ROOT / "docs"), "-d", str(given.into / "site-doctrees")]
    failed = sphinx([*options, "-D", f"nb_execution_cache_path={cache}", str(pages), str(target)])
    if not failed:
        print(f"The site is in {target}. To read it: python -m http.server -d {target}")
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
