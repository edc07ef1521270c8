"""A report as a browser reads it."""

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "input", "img", "br", "hr", "link", "source"}


class Page(HTMLParser):
    """A page as a browser reads it: its elements, its text, and whether every element is closed."""

    def __init__(self, path):
        super().__init__()
        self.source = Path(path).read_text()
        self.elements, self.open, self.text = [], [], ""
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += " " + data

    def all(self, tag, **having):
        return [a for t, a in self.elements if t == tag and having.items() <= a.items()]

    def says(self, text):
        return text in " ".join(self.text.replace("\u00a0", " ").split())

    def check_alone(self):
        """The page loads nothing and runs nothing."""
        assert {tag for tag, _ in self.elements}.isdisjoint(
            {"script", "link", "iframe", "object", "a", "base", "form"}
        )
        for _, attributes in self.elements:
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "href", "srcset", "xlink:href"):
                assert attributes.get(name, "#").startswith(("#", "data:image/"))
        style = self.source.split("<style>")[1].split("</style>")[0]
        assert "url(" not in style
        assert "@import" not in style
        policy = self.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
        ids = [a["id"] for _, a in self.elements if "id" in a]
        assert len(ids) == len(set(ids))
        assert {a["href"][1:] for a in self.all("use")} <= set(ids)
