"""Feedback pages by nbgrader's own converter, for a part of the class at a time, so that workers can share them."""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter, TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter
from nbconvert.writers import FilesWriter
from nbformat import NotebookNode
from nbgrader.converters import GenerateFeedback
from traitlets import Dict, List, Unicode

from autograder.atomic import swap
from autograder.gradebook import QUIET, page_of
from autograder.settings import course_directory, nbgrader_config
from autograder.week import Week

CHUNK = 8  # students whose pages one worker makes at a time, at most
NO_ALT = re.compile(r"<img(?![^>]*\salt=)(?=[\s>/])")
ALT = '<img alt="No description has been provided for this image"'


class FeedbackExporter(HTMLExporter):
    """nbconvert's HTMLExporter for many notebooks that are mostly the same.

    What it makes of a cell's source is kept; and the finished page, which HTMLExporter takes apart and puts together again in
    order to describe images, is only searched for them: more than half of the time goes into that otherwise.
    """

    def from_notebook_node(
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        resources = self._init_resources(resources)
        about = {"notebook_metadata": self._nb_metadata, "parent": self, "resources": resources}
        self.register_filter("filter_data_type", WidgetsDataTypeFilter(**about))
        language = nb.metadata.get("language_info", {})
        lexer = language.get("pygments_lexer", language.get("name"))
        self.register_filter("highlight_code", functools.partial(self._highlight, lexer))
        page, resources = TemplateExporter.from_notebook_node(self, nb, resources, **kw)
        return NO_ALT.sub(ALT, page), resources

    def _highlight(self, lexer: str | None, source: str, language: str | None = None, metadata: Any = None) -> str:
        return self._highlighted(lexer, source, language, (metadata or {}).get("magics_language"))

    @functools.lru_cache(maxsize=1024)  # noqa: B019  an exporter lives as long as its process is making pages
    def _highlighted(self, lexer: str | None, source: str, language: str | None, magics: str | None) -> str:
        metadata = {"magics_language": magics} if magics else {}
        return Highlight2HTML(pygments_lexer=lexer, parent=self)(source, language, metadata)

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        if context.get("cell", {}).get("attachments"):
            return super().markdown2html(context, source)
        return self._rendered(source)

    @functools.lru_cache(maxsize=1024)  # noqa: B019
    def _rendered(self, source: str) -> str:
        return super().markdown2html({}, source)


class Pages(GenerateFeedback):
    """nbgrader's converter for the given students, each by itself. `troubles`: what went wrong, by student."""

    students = List(Unicode())
    troubles = Dict()

    def start(self) -> None:
        """As the converter's own, but it leaves the working folder alone, which threads share."""
        self.writer = FilesWriter(parent=self, config=self.config)
        self.exporter = self.exporter_class(parent=self, config=self.config)
        for preprocessor in self.preprocessors:
            self.exporter.register_preprocessor(preprocessor)
        assignment = self.coursedir.assignment_id
        for student in self.students:
            folder = Path(self._format_source(assignment, student))
            self.assignments = {str(folder): [str(folder / f"{assignment}.ipynb")]}
            try:
                self.convert_notebooks()
            except (Exception, SystemExit) as error:
                self.troubles[student] = f"Its feedback page could not be made: {error}"


def write_pages(week: Path, students: Sequence[str]) -> dict[str, str]:
    """Makes the feedback pages of graded students and puts each in place when it is whole. Returns troubles by student.

    The arguments are plain values, so that it can run in a worker.
    """
    week = Week(week)
    directory, elsewhere = course_directory(week.root), course_directory(week.root)
    top = feedback_top(week)
    top.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".pages-", dir=top) as made:
        elsewhere.assignment_id, elsewhere.feedback_directory = week.name, made
        converter = Pages(coursedir=elsewhere, config=nbgrader_config(week.root), students=list(students))
        converter.log = elsewhere.log = QUIET
        converter.start()
        for student in students:
            page = page_of(elsewhere, week, student)
            if page.is_file() and student not in converter.troubles:
                target = page_of(directory, week, student).parent
                target.parent.mkdir(parents=True, exist_ok=True)
                swap(page.parent, target)
    return converter.troubles


def feedback_top(week: Week) -> Path:
    """The folder of all feedback; `.pages-*` in it are pages under way."""
    directory = course_directory(week.root)
    return Path(directory.root) / directory.feedback_directory


def chunks(week: Week, students: Sequence[str], jobs: int) -> Iterator[tuple[Path, list[str]]]:
    """The arguments of `write_pages` for each part of the class, so that no worker is without work."""
    size = max(1, min(CHUNK, -(-len(students) // jobs)))
    for at in range(0, len(students), size):
        yield week.folder, list(students[at : at + size])


def outdated(week: Week, students: Sequence[str]) -> list[str]:
    """Those who have a graded notebook, and a feedback page that is missing or older."""
    directory = course_directory(week.root)
    found = []
    for student in students:
        notebook = (
            Path(directory.format_path(directory.autograded_directory, student, week.name)) / f"{week.name}.ipynb"
        )
        page = page_of(directory, week, student)
        if notebook.is_file() and not (page.is_file() and page.stat().st_mtime_ns >= notebook.stat().st_mtime_ns):
            found.append(student)
    return found
