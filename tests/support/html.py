"""A page as a browser reads it, and a name that tries to become part of it."""

from __future__ import annotations

import json
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br", "path", "circle", "rect", "use"}
HOSTILE = '</script><img src=x onerror="alert(1)">&\u2028<!--<script>'


class Page(HTMLParser):
    """Elements with their attributes and text; complains about tags that do not match."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **{k: v if v is not None else "" for k, v in attrs}}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for one in self.open:
            one["text"] += data

    def all(self, tag, **attributes):
        wanted = {k.rstrip("_").replace("_", "-"): v for k, v in attributes.items()}
        return [
            one
            for one in self.elements
            if one["tag"] == tag and all(one.get(k) == v for k, v in wanted.items())
        ]

    def one(self, tag, **attributes):
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def text(self):
        return " ".join(self.all("body")[0]["text"].split())

    @property
    def data(self):
        return json.loads(self.one("script", id="data")["text"])
