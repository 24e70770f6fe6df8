"""What the pages that the package writes consist of."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "input", "link", "source"}


class Reader(HTMLParser):
    """What a page consists of; a tag that is not closed is an error."""

    def __init__(self, document):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.numbers, self.words = [], [], [], [], {}
        self.feed(document)
        self.close()
        assert not self.open

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, attributes = self.open[-1] if self.open else ("", {})
        if tag == "data":
            self.numbers.append((attributes["value"], data))
        for opened, attributes in self.open:
            for key in {opened, attributes.get("id", opened)}:
                self.words[key] = self.words.get(key, "") + data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def check_that_nothing_is_loaded(document):
    read = Reader(document)
    assert not read.all("img") + read.all("link") + read.all("iframe")
    assert not any("src" in attributes for _, attributes in read.tags)
    links = [
        value
        for _, attributes in read.tags
        for key, value in attributes.items()
        if key.endswith("href")
    ]
    assert all(link.startswith("#") for link in links)
    assert all(target.startswith("#") for target in re.findall(r"url\((.)", document))
    assert "@import" not in document
