"""Sphinx's settings for the course's site. `make site` runs `python -m autograder.site`, which gathers the pages first.

Pictures need alt text. A Markdown page gives it as `![alt](picture.png)`; a cell of a notebook that draws has it in its
metadata, one line for each picture where it draws several, in their order, or one line that serves them all:

    {"mystnb": {"image": {"alt": "Loss by update: it falls from 4.2 to 2.3.\\nThe same for three learning rates."}}}

A picture without alt text is a warning, and warnings are errors.
"""

from autograder import site

project = "From the recurrent network to efficient transformers"
author = "the course's authors"
project_copyright = "the course's authors. Prose: CC BY 4.0. Code: MIT"  # the theme ends the sentence

templates_path = ["_templates"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_design"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

# Markdown and notebooks. The lectures are executed, once for each state of `course` (see autograder.site); assignments are
# shown as students get them. Sliders stand still: nobody can move them here.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_excludepatterns = ["assignments/*/*.ipynb"]
nb_execution_in_temp = True
nb_execution_timeout = 600  # of a cell, on a machine that is busy; a test sees to it that a lecture takes two minutes
nb_execution_raise_on_error = True
nb_merge_streams = True

# The page asks nobody for anything: mathematics and fonts lie in _static, and widgets are off.
nb_ipywidgets_js = {}
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}, "chtml": {"mtextInheritFont": True}}

# The API page. Docstrings are plain text with names in backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_use_legacy_class_based = False
add_module_names = False
python_use_unqualified_type_names = True

html_theme = "sphinx_book_theme"
html_title = "RNN to transformers"
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_copy_source = True
html_show_sphinx = False
html_show_sourcelink = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_favicon = "_static/favicon.svg"
html_theme_options = {
    "use_edit_page_button": False,
    "use_issues_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the sidebar has the search field
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def setup(app) -> None:
    site.setup(app)
