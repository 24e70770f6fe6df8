"""Excerpts among the results of a search in pages that are opened as files.

Sphinx takes them from the pages that it found, which browsers fetch from a server only.
"""

import json
from html import escape
from pathlib import Path

_FETCH = """
if (location.protocol === "file:")
  window.fetch = async (url) => ({ text: () => PAGES[url.split("/").pop()] });
"""


def _write(app, exception):
    if exception or app.builder.name != "html":
        return
    pages = {
        f"{page}.html": f'<div role="main">{escape(app.env.get_doctree(page).astext())}</div>'
        for page in app.env.found_docs
    }
    script = f"const PAGES = {json.dumps(pages)};{_FETCH}"
    Path(app.outdir, "_static", "excerpts.js").write_text(script, encoding="utf-8")


def _add(app, page, template, context, doctree):
    if page == "search":
        app.add_js_file("excerpts.js")


def setup(app):
    """Have Sphinx write the text of all pages, and its search read it."""
    app.connect("html-page-context", _add)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}
