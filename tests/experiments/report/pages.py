"""Written reports, read back as a browser would read them."""

from collections import defaultdict
from html.parser import HTMLParser

from experiments.report import page
from tests.experiments.report.reports import example

VOID = {"meta", "img", "source", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Elements, attributes and tables of a page, as a browser would find them."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements, self.attributes = defaultdict(int), set()
        self.links, self.pictures, self.texts = [], [], []
        self.rows, self.labels, self.exact, self.open = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1
        self.attributes |= {(tag, name) for name, _ in attrs}
        values = dict(attrs)
        for name in ("href", "src", "srcset", "action", "formaction", "data"):
            if name in values:
                self.links.append(values[name])
        if tag == "img" and values["class"] == "light":
            self.pictures.append(values)
        if tag == "tr":
            self.rows.append([])
            self.labels.append([])
            self.exact.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.labels[-1].append(values.get("data-label"))
        if tag == "data":
            self.exact[-1].append(values["value"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, text):
        self.texts.append(text)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += text


def written(analysis, folder):
    path = page.write(analysis, folder)
    return Page(path.read_text("utf-8")), (folder / "report.md").read_text("utf-8")


def small(**changes):
    """A study with every part of the page, quick to draw."""
    arms, lost = ["sinusoidal", "none", "relative"], {"none": [1]}
    return example(**dict(arms=arms, seeds=3, diverged=lost, points=6) | changes)
