"""Sanitising: nothing that a student hands in does anything on the pages of formgrader and of nbgrader's feedback.

The pages are made by nbgrader itself and read by html5lib, which reads them as browsers do. What is on them beyond what is
on the pages of an untouched release must be text, pictures in the page itself, and links to click on.
"""

import re

import nbformat
import pytest
from bleach._vendor import html5lib
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output, new_raw_cell
from nbgrader.server_extensions.formgrader import handlers
from traitlets.config import Config

from autograder.feedback import write_pages
from autograder.grade import Graded, _finish, ungraded
from autograder.gradebook import Writer, open_gradebook, register
from autograder.journal import Entry
from autograder.repair import repair
from autograder.sanitize import safe_html, safe_markdown
from autograder.settings import course_directory
from course.check import Verdict
from tests.conftest import WEEK

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PASSIVE = (
    "a abbr b blockquote br code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img li ol p pre s span strong sub "
    "summary sup table tbody td tfoot th thead tr ul html head body"
)


def elements(page):
    return html5lib.parse(page, namespaceHTMLElements=False).iter()


def deeds(page):
    """Everything on a page that may do something, each in a line of text."""
    found = []
    for element in elements(page):
        if not isinstance(element.tag, str):  # a comment
            continue
        tag, text = element.tag, element.text or ""
        box = tag == "input" and set(element.attrib.items()) >= {("type", "checkbox"), ("disabled", "")}
        if tag not in PASSIVE.split() and not box:
            found.append(f"<{tag}> {sorted(element.attrib.items())} {text.strip()}")
        for name, value in element.attrib.items():
            link = tag == "a" and name == "href" and re.match(r"https?://|mailto:|#|[\w./%-]+$", value)
            own = tag == "img" and name == "src" and re.match(r"data:image/(png|jpeg|gif);base64,[\w+/=\s]+$", value)
            if name.startswith("on") or (
                name in ("src", "srcset", "href", "action", "formaction") and not link and not own
            ):
                found.append(f"<{tag} {name}> {value}")
            if name == "style" and re.search(r"url|expression|position|import", value):
                found.append(f"<{tag} {name}> {value}")
            if tag in PASSIVE.split() and name in ("class", "name") and re.search(r"attack", value):
                found.append(f"<{tag} {name}> {value}")
    typeset = re.sub(r"(?s)<(pre|code|script|style)\b.*?</\1>", "", page)
    return found + re.findall(r"\\(?:href|require|cssId|class|style)\b[^<]*", typeset)


def by_id(page):
    """What the page's own scripts find by an id: the first element that has it."""
    found = {}
    for element in elements(page):
        found.setdefault(element.attrib.get("id"), (element.tag, element.attrib.get("class", "")))
    return found


def finished(small, notebook, quoted=""):
    """The notebook as grading writes it, with the verdicts of an empty submission, which quote something."""
    verdicts = ungraded(small.release, small.week, "Nothing was run.").verdicts
    verdicts[1] = Verdict(verdicts[1].exercise, "forbidden", 2, 2, 0.0, 2.0, message=f"Not allowed: {quoted}")
    verdicts[-1] = Verdict(verdicts[-1].exercise, "wrong", 0, 0, 0.0, 4.0, message=f"It scores {quoted}")
    repaired = repair(notebook, small.release)
    told = [*repaired.repairs, f"Repaired {quoted}"]
    _finish(repaired.notebook, small.release, {each.exercise: each for each in verdicts}, told)
    nbformat.validate(repaired.notebook)
    return Graded(verdicts, repaired.notebook, told)


def pages(course, student, graded):
    """(formgrader's page, the feedback page) of a graded notebook, both as nbgrader makes them."""
    with open_gradebook(course.root):
        pass
    register(course.week)
    submitted = course.root / "grading" / "submitted" / student / WEEK
    submitted.mkdir(parents=True)
    with Writer(course.week) as writer:
        assert not writer.write({student: (submitted, Entry(graded, {"key": ""}))})
    assert not write_pages(course.week.folder, [student])
    directory = course_directory(course.root)
    written = directory.format_path(directory.autograded_directory, student, WEEK)
    feedback = directory.format_path(directory.feedback_directory, student, WEEK)
    config = Config()  # as nbgrader.server_extensions.formgrader.formgrader makes it
    config.HTMLExporter.template_name = "formgrade"
    config.HTMLExporter.extra_template_basedirs = [handlers.template_path]
    facts = {"submission_id": "s", "notebook_id": WEEK, "assignment_id": WEEK, "base_url": "", "index": 0, "total": 1}
    page, _ = HTMLExporter(config=config).from_filename(f"{written}/{WEEK}.ipynb", resources=facts)
    return page, open(f"{feedback}/{WEEK}.html", encoding="utf-8").read()


TEXTS = [
    "<script>alert('attack')</script>",
    "<ScRiPt\n>alert('attack')</script",
    "<img src=x onerror=alert('attack')>",
    "<img src='https://attack.example/pixel.png'>",
    "<!--><img src=x onerror=alert('attack')>-->",
    "<svg><script>alert('attack')</script></svg>",
    "<svg/onload=alert('attack')>",
    "<math><mtext></mtext><mglyph><style><!--</style><img title='--><img src=x onerror=alert(1)>'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "<style>body{background:url(https://attack.example)}</style>",
    "<link rel=stylesheet href=https://attack.example/x.css>",
    "<meta http-equiv=refresh content='0;url=https://attack.example'>",
    "<base href='https://attack.example'>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<form action='/formgrader/api/attack'><button>Full credit</button><input name=attack></form>",
    "<object data='https://attack.example'></object><embed src='https://attack.example'>",
    "<video src='https://attack.example' autoplay></video><audio src='https://attack.example'></audio>",
    "<div id='attack' class='attack full-credit' style='position:fixed;background:url(https://attack.example)'>x</div>",
    "<a href='javascript:alert(1)'>x</a> <a href='jav&#x09;ascript:alert(1)'>y</a> <a href='data:text/html,x'>z</a>",
    "<a href='vbscript:x' onclick='alert(1)'>x</a> <a href=' java\nscript:alert(1)'>y</a>",
    "</div></div></div><script>alert('attack')</script>",
    "<textarea><script>alert('attack')</script>",
    "<details open ontoggle=alert('attack')><summary>x</summary></details>",
    "[x](javascript:alert(1)) and [y]( javascript:alert(1) 'title') and [z](<javascript:alert(1)>)",
    "[x][y]\n\n[y]: javascript:alert(1)",
    "[x](&#106;avascript:alert(1)) [x](java&Tab;script:alert(1)) [x](JaVaScRiPt:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=) [x](vbscript:x) [x](file:///etc/passwd)",
    "<javascript:alert(1)>",
    "![x](https://attack.example/pixel.png)",
    "![x](//attack.example/pixel.png) ![y](/logout) ![z](../../../logout.png)",
    "![x][y]\n\n[y]: https://attack.example/pixel.png",
    '![x](data:image/svg+xml;base64,PHN2Zz4=) ![y](x"onerror="alert(1))',
    "![x](attachment:there.svg) ![y](attachment:there.png)",
    "![x](attachment:missing.png)",
    "$\\href{javascript:alert(1)}{x}$ \\(\\let\\h\\href \\h{javascript:alert(1)}{x}\\) $$\\require{html}\\cssId{attack}{x}$$",
    "&#36;&#92;href{javascript:alert(1)}{x}&#36;",
    "```mermaid\ngraph TD; A-->B; click A call attack()\n```",
    "```html onload=alert(1)\n<script>alert('attack')</script>\n```",
    "`<script>alert('attack')</script>` and \\<script>alert('attack')</script>",
    "| a |\n|:--|\n| <script>alert('attack')</script> [x](javascript:alert(1)) |",
    "# <script>alert('attack')</script> attack\n\n- [ ] <img src=x onerror=alert(1)>",
    "\\begin{x}<script>alert('attack')</script>\\end{x} $<img src=x onerror=alert(1)>$",
    "# check-rnn-step\n\n## written-why-tanh\n\n### rnn-step-comment\n\n#### statusmessage",
    "[" * 3000 + "](x)" * 3000,
    "<div>" * 3000,
    "> " * 3000 + "<script>alert('attack')</script>",
]
DATA = [
    *({"text/html": text} for text in TEXTS),
    *({"text/markdown": text} for text in TEXTS),
    *({"text/latex": text} for text in TEXTS[-15:]),
    *({"text/plain": text} for text in TEXTS[:4]),
    {"application/javascript": "alert('attack')"},
    {
        "image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert('attack')</script></svg>"
    },
    {"image/png": "\"><script>alert('attack')</script>"},
    {"image/jpeg": 'x" onerror="alert(1)'},
    {"application/vnd.jupyter.widget-view+json": {"model_id": "</script><script>alert('attack')</script>"}},
    {"application/vnd.vega.v5+json": {"signals": [{"update": "alert(1)"}]}},
    {"application/vnd.plotly.v1+json": {"data": [{"text": "<script>alert('attack')</script>"}]}},
    {"application/json": {"x": "<script>alert('attack')</script>"}},
    {"text/vnd.mermaid": "graph TD; A-->B; click A call attack()"},
]
STREAMS = [
    "<script>alert('attack')</script>",
    "\x1b]8;;javascript:alert(1)\x1b\\click\x1b]8;;\x1b\\ \x1b[31m<script>alert('attack')</script>\x1b[0m",
    "\x1b[38;2;1;1;1;url(https://attack.example)m x",
]
METADATA = {
    "text/html": {"isolated": True},
    "isolated": True,
    "filenames": {"image/png": "https://attack.example/pixel.png"},
    "image/png": {"width": "1 onload=alert(1)", "height": 20, "alt": '"><script>alert(1)</script>', "unconfined": True},
}


def malicious(small):
    """A submission with every attack in each place that students write in."""
    notebook = small.solved(
        rnn_step="%%html\n<script>alert('attack')</script>\n'''</pre></div><img src=x onerror=alert(1)>"
    )
    for i, text in enumerate(TEXTS):
        cell = new_markdown_cell(text, metadata={"tags": ["x onload=alert(1)"], "title": text})
        cell.attachments = {
            "there.svg": {"image/svg+xml": "PHN2Zz4=", "text/html": "<script>alert('attack')</script>"},
            "there.png": {"image/png": f'{PIXEL}" onerror="alert(1)', "image/svg+xml": "PHN2Zz4="},
        }
        raw = new_raw_cell(text, metadata={"raw_mimetype": "text/html"})
        code = new_code_cell(text, metadata={"magics_language": "html", "collapsed": True})
        cell.id, raw.id, code.id = (f"{kind}-{i}<script>" for kind in ("text", "raw", "code"))
        notebook.cells += [cell, raw, code]
    outputs = [new_output("display_data", data=data, metadata=METADATA) for data in DATA]
    outputs += [new_output("execute_result", data=data, metadata=METADATA, execution_count=3) for data in DATA[:5]]
    outputs += [new_output("stream", name="stderr", text=text) for text in STREAMS]
    outputs += [new_output("error", ename=text, evalue=text, traceback=[text, text]) for text in STREAMS]
    for i, output in enumerate(outputs):
        notebook.cells.append(new_code_cell("1", outputs=[output], id=f"output-{i}"))
    ids = {cell.id: cell for cell in notebook.cells}
    ids["written-why-tanh"].source = "\n\n".join(TEXTS[:20])
    notebook.cells.insert(0, new_markdown_cell("# check-rnn-step\n\n# written-why-tanh"))
    ids["rnn-step"].outputs = outputs[:50]
    notebook.metadata = {
        "title": "<script>alert('attack')</script>",
        "kernelspec": {"name": "x", "display_name": "<script>"},
        "language_info": {"name": "html", "pygments_lexer": "<script>"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"x": "</script><script>alert('attack')</script>"}},
    }
    return notebook


def test_nothing_handed_in_does_anything_on_nbgraders_pages(class_course):
    harmless = pages(class_course, "ann", finished(class_course, class_course.solved()))
    quoted = "x = 1  # $\\href{javascript:alert(1)}{x}$ [x](javascript:alert(2)) | <img src=x onerror=alert(3)>"
    attacked = pages(class_course, "eve", finished(class_course, malicious(class_course), quoted))
    for usual, page in zip(harmless, attacked, strict=True):
        # nbgrader's own scripts, score boxes and comments stand on both pages; nothing else may
        assert [deed for deed in deeds(page) if deed not in deeds(usual.replace("/ann/", "/eve/"))] == []
        assert by_id(page).items() >= by_id(usual).items()


@pytest.mark.parametrize(
    "text", ["<b onclick=x>", "<script>", "<img src=https://x>", "<a href='javascript:x'>", "$\\href{x}$"]
)
def test_the_test_sees_what_it_looks_for(text):
    assert deeds(f"<div>{text}</div>") != []


HONEST = [
    "The state is **bounded**: $|h_t| < 1$, and $$\\frac{\\partial h}{\\partial W} = \\sum_t \\delta_t x_t^\\top$$",
    "> a quotation\n\n1. one & two\n2. `x < 3` and 5 > 4\n\n```python\nif a < b > c:\n    print('<b>')\n```",
    "| a | b |\n|:--|--:|\n| 1 | 2 |\n\n- [x] done",
    "See [the paper](https://arxiv.org/abs/1412.6980 'Adam'), <https://pytorch.org>, [above](#why), [file](notes/a.md).",
    "<details><summary>Hint</summary>\n\n*look*\n\n</details>\n\nH<sub>2</sub>O<br>",
    "![my plot](attachment:plot.png)\n\n![saved](figures/plot-1.png)",
    "## A heading\n\n`vector<int>` and a <- b < c",
]


@pytest.mark.parametrize("text", HONEST)
def test_honest_texts_stay_as_they_are(text):
    assert safe_markdown(text, {"plot.png": {"image/png": PIXEL}}) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("*a* <font color='red'>b</font> > c", "*a* b > c"),
        ("![a](https://x.org/y.png)", "[a](https://x.org/y.png)"),
        ("a\n\n<script>alert(1)</script>\n\n> b", "a\n\n\n\n> b"),
        ("[a](javascript:x) `b`", "```\n[a](javascript:x) `b`\n```"),
        ("[a](javascript:x) ```", "````\n[a](javascript:x) ```\n````"),
        ("a" * 30_000, None),
    ],
)
def test_what_is_left_of_other_texts(text, left):
    assert safe_markdown(text) == left if left is not None else len(safe_markdown(text)) < 20_100


def test_an_honest_notebook_keeps_its_plots_tables_and_formulas(class_course):
    table = (
        "<div>\n<style scoped>\n    .dataframe tbody tr th { vertical-align: top; }\n</style>\n"
        '<table border="1" class="dataframe">\n  <thead>\n    <tr style="text-align: right;">\n      <th></th>\n'
        "      <th>loss</th>\n    </tr>\n  </thead>\n  <tbody>\n    <tr>\n      <th>0</th>\n      <td>0.61</td>\n    </tr>\n"
        "  </tbody>\n</table>\n</div>"
    )
    notebook = class_course.solved()
    notebook.cells += [
        new_code_cell(
            "x < y and 'code'",
            outputs=[
                new_output(
                    "display_data",
                    data={"image/png": PIXEL, "text/plain": "<Figure size 600x400>"},
                    metadata={"image/png": {"width": 600, "height": 400}},
                ),
                new_output("execute_result", data={"text/html": table, "text/plain": "   loss\n0  0.61"}),
                new_output("display_data", data={"text/latex": "$\\displaystyle x^2$"}),
                new_output("stream", text="\x1b[31mred\x1b[0m <ok>\n"),
            ],
        ),
        new_markdown_cell(HONEST[0]),
        new_markdown_cell("![my plot](attachment:plot.png)", attachments={"plot.png": {"image/png": PIXEL}}),
    ]
    for page in pages(class_course, "ann", finished(class_course, notebook)):
        assert page.count(f"data:image/png;base64,{PIXEL}") == 2
        [image] = re.findall(r"<img[^>]*height=[^>]*>", page)
        assert re.search(r'height="?400\b', image) and re.search(r'width="?600\b', image)
        assert '<table border="1" class="dataframe">' in page and "<td>0.61</td>" in page
        assert "vertical-align: top" not in page
        assert "\\frac{\\partial h}{\\partial W}" in page and "$\\displaystyle x^2$" in page
        assert "<strong>bounded</strong>" in page and 'class="ansi-red-fg"' in page and "&lt;ok&gt;" in page
        assert '<span class="k">def</span>' in page, "code is coloured"


def test_html_that_takes_long_to_read_is_left_out():
    assert safe_html("<div>" * 20_000) == safe_html("<p><b>" * 10_000) == safe_html("x" * 200_000) == ""
    assert safe_html("<tr><td>1</td></tr>" * 2000) != ""
