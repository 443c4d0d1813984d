"""The site is built without a warning, and its links lead somewhere, also offline."""

import html.parser
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

from tfm_jax import api

ROOT = Path(__file__).resolve().parents[1]
GENERATOR = ("sphinx", "myst_parser", "furo")
absent = [name for name in GENERATOR if importlib.util.find_spec(name) is None]
needs_generator = pytest.mark.skipif(
    bool(absent), reason=f"pip install -e '.[docs]' has {', '.join(absent)}"
)


class Page(html.parser.HTMLParser):
    """Links, files that it loads, and what a link may point to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.ids = set(), set(), {""}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        has = dict(attributes)
        self.ids.add(has.get("id", ""))
        if tag == "a" and "href" in has:
            self.links.add(has["href"])
        elif tag in {"img", "script", "link", "iframe"}:
            self.loaded.add(has.get("src") or has.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder and path -> page."""
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet"]
    folders = ["-d", out / "doctrees", "docs", out / "html"]
    built = subprocess.run(
        [*build, *folders], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    return {path: Page(path) for path in (out / "html").resolve().rglob("*.html")}


def test_no_process_of_the_tests_has_to_list_the_fonts_first():
    """It would complain on standard error where that takes seconds."""
    assert [*Path(os.environ["XDG_CACHE_HOME"], "matplotlib").glob("fontlist-*.json")]


@needs_generator
@pytest.mark.slow
def test_every_link_of_the_site_leads_to_a_place_that_is_there(site):
    index = next(path for path in site if path.name == "index.html")
    assert {
        index.with_name("api.html"),
        index.with_name("index.ko.html"),
    } <= site.keys()
    for path, page in site.items():
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme in {"http", "https"}:
                assert parts.netloc and link in page.links, f"{path}: loads {link}"
                continue
            assert parts.scheme in {"", "data"}, f"{path}: {link}"
            if parts.scheme:
                continue
            target = (
                (path.parent / unquote(parts.path)).resolve() if parts.path else path
            )
            assert target.is_file(), f"{path}: {link}"
            if target in site:
                assert unquote(parts.fragment) in site[target].ids, f"{path}: {link}"


@needs_generator
@pytest.mark.slow
def test_the_site_is_searched_without_a_server(site):
    folder = next(path for path in site if path.name == "search.html").parent
    words = (folder / "searchindex.js").read_text("utf-8")
    assert "read_command" in words and "Multi30k" in words


def test_the_reference_has_every_public_name_and_no_other():
    reference = (ROOT / "docs/api.md").read_text("utf-8")
    listed, module = set(), ""
    for kind, name in re.findall(r"^\.\. ([\w:]+):: ([\w.]+)$", reference, re.M):
        module = name if kind.endswith("module") else module
        where, _, last = name.rpartition(".")
        if module == "tfm_jax.api" and not where:
            listed.add(last)
    modules = {
        name for name in api.__all__ if isinstance(getattr(api, name), ModuleType)
    }
    assert listed == set(api.__all__) - modules
    for name in modules:
        assert f".. automodule:: {getattr(api, name).__name__}\n" in reference
