"""Configuration of the documentation. Build with ``python -m sphinx -W docs docs/_build/html``."""

import re
import sys
from pathlib import Path

import skminibatch

sys.path.insert(0, str(Path(__file__).parent))
import lists

lists.write(Path(__file__).parent)

project = "skminibatch"
author = "the skminibatch developers"
copyright = f"2026, {author}"
version = release = skminibatch.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
exclude_patterns = [
    "_build",
    "benchmarks/*",  # tables that benchmarks.md includes
    "generated/tables/*",  # tables that pages include
]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings name the types
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False  # the template of a class lists its methods

html_theme = "furo"
html_title = f"skminibatch {version}"

# Inherited docstrings refer to labels and terms of scikit-learn's documentation: keep the words only.
LINK = re.compile(r":(?:ref|term):`\s*(?P<words>[^`<]*?)\s*(?:<[^`>]*>)?`")


def drop_links_of_scikit_learn(app, what, name, obj, options, lines):
    """Replace ``:ref:`words <label>``` by its words in what scikit-learn wrote."""
    module = getattr(getattr(obj, "fget", obj), "__module__", None) or ""
    if module.startswith("sklearn."):
        lines[:] = LINK.sub(_words, "\n".join(lines)).split("\n")


def _words(link):
    """The words of a link; as code where they are an attribute, whose underscore would be a link again."""
    words = link["words"]
    return f"``{words}``" if words.endswith("_") else words


def setup(app):
    app.connect("autodoc-process-docstring", drop_links_of_scikit_learn, priority=0)
