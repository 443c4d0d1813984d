"""Text in a report is only text, whatever it says; and the page is left alone."""

import base64
import copy
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict

import pytest
from markdown_it import MarkdownIt

from experiments.report import canvas, page, plots
from experiments.report.text import fenced, markdown, visible
from tests.experiments.report.pages import small, written
from tests.experiments.report.reports import example

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
PAYLOADS = {
    "script": "<script>alert(1)</script>",
    "closing": "</script></style></pre></table><script src=//x.example>",
    "image": '"><img src=x onerror=alert(1)>',
    "attribute": "' onmouseover='alert(1)' x='",
    "url": "javascript:alert(1)",
    "svg": "<svg/onload=alert(1)><![CDATA[x]]>",
    "comment": "--><b>x</b><!-- <?xml ?>",
    "template": "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "bidi": "abc\u202edcba\u2066\u200b\ufeff",
    "ansi": "\x1b[31mred\x1b]8;;http://x.example\x07link",
    "nul": "a\0b\x07\x7f\x85\ufffe\ud800",
    "math": r"$x^2$ $\frac{a}{b} \notacommand$ _{",
    "heading": "x\n# Heading\n\n- item\n> quote\n```\ncode\n~~~",
    "link": "[a](http://x.example) ![b](ftp://x) <http://x.example> `c` www.x.y",
    "table": "a | b | c \\| d\n|---|---|",
    "list": "# x",
    "number": "1. x",
    "underscore": "_hidden_ *bold* ~~gone~~",
    "long": "positions-" * 400,
    "hangul": "위치 인코딩 🙂",
    "blank": " \n\t ",
}


def poisoned(analysis, payload):
    """``analysis`` with ``payload`` in every text that comes from outside."""
    bad = copy.deepcopy(analysis)
    arms = {arm["name"]: f"{arm['name']}{payload}" for arm in bad["arms"]}
    fields = ("name", "scale", "question", "source", "caveat", "answer", "metric")
    for field in (*fields, "match", "written"):
        bad[field] = payload
    for field in ("exploratory", "mixed_environments", "commands"):
        bad[field] = [payload for _ in bad[field]]
    for expected in bad["expectations"]:
        expected |= {"text": payload, "detail": payload}
    for arm in bad["arms"]:
        arm["overrides"] = arm["chosen"] = {f"model.{payload}": payload}
        arm["name"] = arms[arm["name"]]
    for run in bad["runs"]:
        run |= dict.fromkeys(("id", "directory", "command"), payload)
        value = "".join(map(str, run["settings"].values()))
        run |= {"arm": arms[run["arm"]], "settings": {payload: payload + value}}
        run["error"] = run["error"] and payload
    for trial in bad["tuning"]:
        rate = trial["settings"]["optim.peak_lr"]
        trial |= {"arm": arms[trial["arm"]], "settings": {payload: rate}}
    for excluded in bad["excluded"]:
        excluded |= {"id": payload, "reason": payload}
    bad["curves"] = {arms[name]: curve for name, curve in bad["curves"].items()}
    bad["baseline"] = arms[bad["baseline"]]
    keys = enumerate(bad["environment"])
    bad["environment"] = {payload + " " * place: payload for place, _ in keys}
    return bad


def kinds(source):
    """The sorts of Markdown tokens in ``source``, with their number; text aside."""
    found = defaultdict(int)
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for token in parser.parse(source):
        for part in [token, *(token.children or [])]:
            if part.type not in ("text", "softbreak"):
                found[part.type] += 1
    return dict(found)


def svg(uri):
    head, _, body = uri.partition(",")
    assert head == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(body))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return written(small(), tmp_path_factory.mktemp("harmless"))


@pytest.fixture
def undrawn(monkeypatch):
    """Pages with empty figures, for tests that look at text alone."""

    def draw(analysis):
        uri, words = "data:image/svg+xml;base64,", f"Of {analysis['name']}"
        keys = ("differences", "curves", "curve_differences", "rates", "divergence")
        empty = canvas.Picture(uri, uri, 1, 1, words, words, "")
        absent = {"curves_against_time": None}
        return absent | dict.fromkeys((*keys, "cost"), empty)

    monkeypatch.setattr(plots, "draw", draw)


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_text_adds_no_element_attribute_or_markdown(
    payload, harmless, undrawn, tmp_path
):
    page, source = written(poisoned(small(), payload), tmp_path)
    clean, clean_source = harmless
    assert page.elements == clean.elements
    assert page.attributes == clean.attributes
    everything = "".join(page.texts) + source + "".join(p["alt"] for p in page.pictures)
    assert everything == visible(everything)  # nothing in it is invisible
    assert kinds(source) == kinds(clean_source)
    assert not re.search(r"(?<!\\)(https?|ftp)://|www\.", unfenced(source))
    assert json.loads((tmp_path / "report.json").read_text())["name"] == payload


def unfenced(source):
    return re.sub(r"^(`{3,})text\n.*?^\1$", "", source, flags=re.MULTILINE | re.DOTALL)


def test_the_page_runs_and_loads_nothing(harmless):
    page, _ = harmless
    assert not {"script", "iframe", "object", "embed", "link", "svg", "form"} & {
        *page.elements
    }
    assert not [name for _, name in page.attributes if name.startswith("on")]
    assert all(uri.startswith("data:image/svg+xml;base64,") for uri in page.links)
    assert not [a for a in page.attributes if a[1] in ("href", "style", "action")]


def test_the_policy_stands_before_any_style_or_text(harmless):
    html = harmless[0].html
    meta = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    assert html.index(meta) < html.index("<title>") < html.index("<style>")


def test_the_stylesheet_loads_nothing():
    sheet = (page.Path(page.__file__).parent / "page.css").read_text("utf-8")
    assert not re.search(r"url\(|@import|expression", sheet)
    for need in ("@media print", "prefers-color-scheme: dark", "overflow-x: auto"):
        assert need in sheet


def test_names_in_figures_are_text_that_is_not_parsed():
    names = ["sinusoidal", *PAYLOADS.values()]
    pictures = plots.draw(example(arms=names, seeds=2, points=3, metric="$m$<b>"))
    drawn = [svg(uri) for p in pictures.values() if p for uri in (p.light, p.dark)]
    texts = {"".join(text.itertext()).strip() for root in drawn for text in root.iter()}
    assert {canvas.name(name).strip() for name in names} <= texts
    assert "$m$<b>" in texts
    elements = {element.tag for root in drawn for element in root.iter()}
    plain = plots.draw(example(arms=["sinusoidal", "rope"], seeds=2, points=3))
    known = {e.tag for p in plain.values() if p for e in svg(p.light).iter()}
    assert elements == known


def test_dark_and_light_figures_differ_in_colours_alone(harmless):
    page, _ = harmless
    colour = re.compile(r"#[0-9a-f]{6}")
    for light, dark in zip(page.links[::2], page.links[1::2], strict=True):
        texts = [ElementTree.tostring(svg(uri), "unicode") for uri in (light, dark)]
        assert texts[0] != texts[1]
        assert colour.sub("", texts[0]) == colour.sub("", texts[1])
        assert {*colour.findall(texts[0])} <= {*canvas.DARK}  # none is left light


def test_control_characters_are_spelled_out_and_lines_stay():
    assert visible("a\0\x1b\u202e\r\nb\tc") == "a␀␛⟨U+202E⟩\nb\tc"
    assert visible("위치 é –") == "위치 é –"


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_escaped_markdown_reads_as_it_was_written(payload):
    tokens = MarkdownIt("commonmark").parse("x " + markdown(payload))
    (inline,) = [token for token in tokens if token.type == "inline"]
    read = "".join(part.content for part in inline.children)
    assert read.strip() == " ".join(["x", *visible(payload).split()])


def test_a_fence_is_longer_than_any_inside():
    (token,) = MarkdownIt("commonmark").parse(fenced("a\n````\n# b"))
    assert token.type == "fence" and token.content == "a\n````\n# b\n"
