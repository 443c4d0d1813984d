"""How Sphinx builds the site from this folder: ``make docs``."""

import gc
import os
import re
from pathlib import Path
from typing import Any

from tfm_jax import __version__ as release  # noqa: F401

DOCS = Path(__file__).parent
PAGES = {  # files of the project -> the pages that include them
    "../README.md": "index.md",
    "../README.ko.md": "index.ko.md",
    "../CHANGELOG.md": "changelog.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../SECURITY.md": "security.md",
    "../benchmarks/README.md": "benchmarks.md",
    "../experiments/README.md": "studies.md",
    "../experiments/README.ko.md": "studies.ko.md",
}
SECTION = re.compile(r"^(Args|Raises|Returns|Source|Deviates): +(?=\S)")
# Reports of studies are reached from the table of their verdicts: beside each page, a
# list of them all would be longer than the page.
REPORT = "---\norphan: true\n---\n\n{title}\n\n[All verdicts](../studies.md)\n{rest}"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)[^)#]+")

project = html_title = "tfm_jax"
copyright = "the authors of tfm_jax"  # noqa: A001
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_custom_sections = ["Source", "Deviates"]
html_theme = "furo"
html_static_path, html_css_files = ["site.css"], ["site.css"]
html_copy_source = html_show_sourcelink = False


def follow(text: str, written: str, page: str) -> str:
    """Links of the file ``written`` as links of ``page``, both as seen from here."""

    def moved(link):
        path = os.path.normpath(os.path.join(os.path.dirname(written), link[0]))
        return os.path.relpath(PAGES.get(path, path), os.path.dirname(page))

    return LINK.sub(moved, text)


def _fields(app, what, name, thing, options, lines):
    """A section of one line, ``Raises: ValueError if``, is a field of its own."""
    inside = False
    for number, line in enumerate(lines):
        begins = SECTION.match(line)
        inside = bool(line and (inside or begins))
        if inside:
            lines[number] = SECTION.sub(r"\n:\1: ", line) if begins else f"    {line}"
    lines[:] = "\n".join(lines).split("\n")


def setup(app: Any) -> None:
    """What Sphinx calls: the texts it reads go through the functions above."""
    gc.disable()  # nearly all there is, the trees of the pages, is needed to the end

    def read(app, page, source):
        source[0] = follow(source[0], page, page)
        if page.startswith("studies/"):
            title, _, rest = source[0].partition("\n")
            source[0] = REPORT.format(title=title, rest=rest)

    def include(app, path, page, source):
        source[0] = follow(source[0], path, page)

    app.connect("source-read", read)
    app.connect("include-read", include)
    app.connect("autodoc-process-docstring", _fields, priority=400)  # before napoleon
