"""Sphinx configuration: MyST pages, furo, and the API read from docstrings (Google style)."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

import flashfm

project = "flashfm"
author = "the flashfm authors"
project_copyright = "the flashfm authors, Apache-2.0"
version = release = flashfm.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"flashfm {version}"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def setup(app: Sphinx) -> None:
    """Read docstrings as they are written here, before napoleon does."""
    app.connect("autodoc-process-docstring", read_docstring, priority=100)


def read_docstring(_app: Sphinx, what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    """Set `code` as code, and keep napoleon from taking the text before a field's first colon for its type.

    Environments have docstrings in Markdown, as all of Gymnasium's; they are shown as they are.
    """
    if any(line.startswith("## ") for line in lines):
        first = lines.index("")
        lines[first:] = ["", ".. code-block:: text", "", *[f"   {line}" for line in lines[first + 1 :]], ""]
        return
    lines[:] = [re.sub(r"(?<![`:])`([^`]+)`(?!`)", r"``\1``", line) for line in lines]
    if what in ("attribute", "data"):
        lines.insert(0, "")
