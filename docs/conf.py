"""How the documentation is built: `make docs`. Nothing is fetched, neither while it is built nor when it is read."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from ic_secrets import __version__

project = "ic-secrets"
author = "the ic-secrets authors"
project_copyright = "the ic-secrets authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "docstrings", "reference"]
exclude_patterns = ["_build", "openbao.md", "reference/generated/*.md"]
root_doc = "index"
# A double hyphen is an option, and a straight quote is part of a command.
smartquotes = False

myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Show what the source says, never what it came to where the site is built: that could be an environment.
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
# Docstrings put code between single backticks, as Markdown does.
default_role = "literal"

html_theme = "furo"
html_title = f"ic-secrets {__version__}"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": False}
