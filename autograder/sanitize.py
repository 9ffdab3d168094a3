"""Sanitising: what students hand in, made safe to look at.

Formgrader shows the graded notebook in the instructor's own session, and the feedback pages show it to students. What is
left can neither run code, nor load anything from elsewhere, nor pass for a part of the page. Source code is not touched:
pages show it as text. Plots, tables, formulas and Markdown of an honest notebook stay what they are.
"""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbformat import NotebookNode

from autograder.repair import BASE64, MAX_IMAGE

MAX_TEXT = 20_000  # characters of one output
MAX_HTML = 100_000  # characters; a table of pandas with all the rows and columns that it shows has half as many
MAX_MARKDOWN = 20_000
MAX_DEPTH = 200  # tags open at the same time, and LaTeX environments in a text: parsers take the square of it
TAGS = (
    "a abbr b blockquote br code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i li ol p pre s span strong sub "
    "summary sup table tbody td tfoot th thead tr ul"
)
VALUES = {  # attributes that may stay, and what their values may be; the page's own scripts look for ids and classes
    ("a", "href"): r"(https?://|mailto:|#).*|(?!/)(?!.*\.\.)[\w ./%#-]+",
    ("a", "title"): r".*",
    ("table", "border"): r"\d+",
    ("table", "class"): r"dataframe",
    **{(tag, name): r"\d+" for tag in ("td", "th") for name in ("colspan", "rowspan")},
}
RENDERED = {  # what nbconvert makes of Markdown itself
    # formgrader finds its score boxes and comments by id: a heading may not be taken for one
    **{
        (f"h{n}", "id"): r"(?!check-|written-|notebook|statusmessage$|.*(-comment|_extra_credit)$).*"
        for n in range(1, 7)
    },
    **{(tag, "style"): r"text-align:\s?(left|right|center)" for tag in ("td", "th")},
    ("a", "class"): r"anchor-link",
    ("code", "class"): r"language-\S*",
    ("div", "class"): r"highlight",
    ("img", "alt"): r".*",
    ("img", "src"): r"data:image/(png|jpeg|gif);base64,[A-Za-z0-9+/=\s%]+|(?!/)(?!.*\.\.)[\w ./%-]+\.(png|jpe?g|gif)",
    ("img", "title"): r".*",
    ("input", "class"): r"task-list-item-checkbox",
    ("input", "disabled"): r"",
    ("input", "checked"): r"",
    ("input", "type"): r"checkbox",
    ("li", "class"): r"task-list-item",
    ("span", "class"): r"[a-z0-9]{1,3}",  # pygments
}
MACROS = re.compile(r"\\(href|url|require|style|class|cssId)(?![A-Za-z])")  # MathJax: those that reach out of a formula
MARKUP = re.compile(r"<[a-zA-Z/!?]")


def _may_stay(tag: str, name: str, value: str) -> bool:
    allowed = VALUES.get((tag, name))
    return allowed is not None and re.fullmatch(allowed, value.strip(), re.IGNORECASE) is not None


CLEANER = SanitizeHTML(tags=TAGS.split(), attributes=_may_stay, strip=True)


class _Inspector(HTMLParser):
    """Reads a page that a renderer wrote; `harmless` is False once there is anything in it that may not be there."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.harmless = True
        self._verbatim = 0  # how many <pre> and <code> are open: MathJax keeps out of them

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {**VALUES, **RENDERED}
        self._verbatim += tag in ("pre", "code")
        self.harmless &= tag in (*TAGS.split(), "img", "input") and all(
            re.fullmatch(values.get((tag, name), "(?!)"), value or "", re.IGNORECASE | re.DOTALL)
            for name, value in attributes
        )

    def handle_endtag(self, tag: str) -> None:
        self._verbatim -= tag in ("pre", "code")

    def handle_data(self, text: str) -> None:
        self.harmless &= self._verbatim > 0 or not MACROS.search(text)

    def handle_other(self, text: str) -> None:
        self.harmless = False

    handle_comment = handle_decl = handle_pi = unknown_decl = handle_other


def harmless(page: str) -> bool:
    """Whether HTML that a renderer wrote has nothing in it but text, images of its own and links to click on."""
    inspector = _Inspector()
    inspector.feed(page)
    inspector.close()
    return inspector.harmless


def safe_html(page: str) -> str:
    """HTML with nothing in it but text, tables and links; empty where that cannot be had."""
    if len(page) > MAX_HTML or _deep(page):
        return ""
    page = _clean(MACROS.sub("", page))
    return page if harmless(page) else ""


def safe_markdown(source: str, attachments: dict | None = None) -> str:
    """Markdown that renders to something harmless. It stays as it is if it does already.

    Otherwise tags that are not allowed are taken out, and images from elsewhere become links. What even then renders to
    more than text, pictures and links, or does not render at all, is shown as it was typed.
    """
    if len(source) <= MAX_MARKDOWN and not _deep(source):
        if _renders_harmless(source, attachments):
            return source
        mended = re.sub(r"!\[([^\]\n]*)\](?=\(\s*<?\s*(https?:)?//)", r"[\1]", source, flags=re.IGNORECASE)
        mended = MACROS.sub("", mended)
        if MARKUP.search(mended):
            mended = _clean(re.sub(r"<(https?://[^\s<>]+)>", r"\1", mended)).replace("&gt;", ">")
        if mended.strip() and _renders_harmless(mended, attachments):
            return mended
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", source)), default=0))
    return f"{fence}\n{shortened(source)}\n{fence}"


def _renders_harmless(source: str, attachments: dict | None) -> bool:
    """Whether nbconvert, as nbgrader's pages use it, makes a harmless page of it.

    Tags in the source are judged by bleach, which reads them as browsers do; the inspector reads what the renderer wrote.
    """

    def page(escape: bool) -> str:
        return MarkdownWithMath(renderer=IPythonRenderer(escape=escape, attachments=attachments)).render(source)

    try:
        has_tags = page(escape=True) != page(escape=False)
        if has_tags and _clean(source).replace("&gt;", ">") != source.replace("&gt;", ">"):
            return False
        return harmless(page(escape=False))
    except Exception:  # an attachment that is not there stops nbconvert; so may whatever else is written to stop it
        return False


def _clean(page: str) -> str:
    """A text without the tags and attributes that are not allowed, and without what stands in styles and scripts."""
    page = re.sub(r"<(style|script)\b.*?(</\1\s*>|\Z)", "", page, flags=re.IGNORECASE | re.DOTALL)
    return CLEANER.sanitize_html_tags(page)


def _deep(source: str) -> bool:
    """Whether more is open at a time than in any honest text."""
    open_tags: Counter[str] = Counter()
    for end, tag in re.findall(r"<(/?)([a-zA-Z][^\s/>]*)", source):
        if not end:
            open_tags[tag.lower()] += tag.lower() not in ("br", "hr", "img", "input")
        elif open_tags[tag.lower()]:
            open_tags[tag.lower()] -= 1
        if open_tags.total() > MAX_DEPTH:
            return True
    return source.count("\\begin") > MAX_DEPTH


def safe_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs of a code cell that can be shown, long texts cut and large images left out."""
    return [_safe_output(output) for output in outputs]


def _safe_output(output: NotebookNode) -> NotebookNode:
    if output.output_type == "stream":
        output.text = shortened(output.text)
    elif output.output_type == "error":
        output.ename, output.evalue = shortened(output.ename), shortened(output.evalue)
        output.traceback = [shortened(line) for line in output.traceback[-20:]]
    else:
        shown = {kind: _safe_data(kind, value) for kind, value in output.data.items()}
        sizes = {kind: output.metadata.get(kind) for kind in shown if kind.startswith("image/") and shown[kind]}
        output.data = NotebookNode({kind: value for kind, value in shown.items() if value})
        output.metadata = NotebookNode({kind: _size(size) for kind, size in sizes.items() if _size(size)})
        if not output.data:
            output.data["text/plain"] = "(not shown: it is too large, or could run code)"
        if output.output_type == "execute_result":
            output.execution_count = None
    return output


def _safe_data(kind: str, value: Any) -> Any:
    """What can be shown of one representation of an output; nothing where none of it can."""
    if kind == "application/json":
        return value if len(json.dumps(value)) <= MAX_TEXT else None
    if not isinstance(value, str):
        return None
    if kind in ("image/png", "image/jpeg"):
        return value if len(value) <= MAX_IMAGE and BASE64.fullmatch(value) else None
    if kind == "text/plain":
        return shortened(value)
    if kind == "text/latex":
        return MACROS.sub("", shortened(value))
    if kind == "text/markdown":
        return safe_markdown(value)
    return safe_html(value) if kind == "text/html" else None


def _size(size: Any) -> dict[str, int]:
    """Width and height of an image, in pixels."""
    facts = size.items() if isinstance(size, dict) else ()
    return {name: value for name, value in facts if name in ("width", "height") and type(value) is int}


def shortened(text: str, limit: int = MAX_TEXT) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n… ({len(text) - limit} characters cut)\n{text[-limit // 2 :]}"
