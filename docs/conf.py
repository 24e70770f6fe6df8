"""How Sphinx builds the site: ``sphinx-build -W -n --keep-going docs build/docs``.

Formulas become MathML while the site is built, and the theme brings its own files, so that pages
need nothing from elsewhere when they are opened.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import sce_numba

sys.path.insert(0, str(Path(__file__).parent))

project = "sce_numba"
release = sce_numba.__version__

extensions = [
    "excerpts",
    "mathml",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# Docstrings say what is accepted; the type hints are for type checkers.
autodoc_typehints = "none"
autodoc_mock_imports = [] if find_spec("torch") else ["torch"]
autodoc_mock_imports += [] if find_spec("sklearn") else ["sklearn"]
autodoc_mock_imports += [] if find_spec("jax") else ["jax", "sce_numba.xla"]
numpydoc_show_class_members = False

# A block that names no language is what a program prints.
highlight_language = "text"
# Copy what is typed, without prompts and results.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Doctest wants a blank line after the last result.
highlight_options = {"python": {"stripnl": True}}

html_theme = "furo"
html_title = f"sce_numba {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False
