"""Sphinx configuration: MyST pages, furo, and the API read from docstrings (Google style)."""

from __future__ import annotations

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
