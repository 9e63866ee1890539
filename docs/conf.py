"""The configuration of the documentation site, which scripts/docs builds with Sphinx.

The pages are the Markdown files of the checkout, where they are: README.md is the first page. The
table of contents in the margin is added to it here, since README.md is also read elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

PAGES = {
    "Use": (
        "docs/run",
        "docs/ci",
        "docs/api",
        "docs/sessions",
        "docs/folders",
        "docs/workspaces",
        "docs/network",
        "docs/runtimes",
        "docs/authentication",
    ),
    "Operate": ("docs/operations", "docs/security", "CHANGELOG", "SECURITY"),
    "Develop": ("docs/architecture", "docs/decisions", "CONTRIBUTING"),
    "Examples": (
        "examples/wordcount/README",
        "examples/report/README",
        "examples/inventory/README",
    ),
}

project = "sandboxd"
author = "The sandboxd authors"
project_copyright = f"2026, {author}"

extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "examples/*/README.md"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

html_theme = "alabaster"
html_theme_options = {
    "description": "Runs programs that you do not trust on one Linux host",
    "fixed_sidebar": True,
    "page_width": "1180px",
    "body_max_width": "900px",
    "sidebar_width": "210px",
    "show_powered_by": False,
    "font_family": "system-ui, sans-serif",
    "head_font_family": "system-ui, sans-serif",
}
html_sidebars = {"**": ["about.html", "searchbox.html", "navigation.html"]}
html_static_path = [str(Path(__file__).parent / "site.css")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
pygments_style = "friendly"


def _add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    if page == root_doc:
        for caption, pages in PAGES.items():
            entries = "\n".join(pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _add_contents)
