"""The script in a report sorts its tables: V8 runs it over the page's tags, as a browser does."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sce_numba.evaluator.result import Evaluation, Groups, WorstRow

mini_racer = pytest.importorskip("py_mini_racer")
pytest.importorskip("matplotlib")

NAMES = ["b", "A", "Ä", "class 10", "class 9", "null", ""]
LOSS = np.array([0.5, np.nan, 1e-9, np.inf, 12.0, -np.inf, 0.5])
MEAN = np.array([0.25, 0.5, np.nan, 1.0, 0.0, np.nan, 0.125])
ELEMENTS = np.array([10, 9, 1000, 200, 0, 3, 1])

# What the script asks of a page, and no more.
DOM = """
class Node {
  constructor([tag, attributes, children]) {
    Object.assign(this, { tag, attributes, childNodes: [], calls: [] });
    this.append(...children.map((child) => Array.isArray(child) ? new Node(child) : child));
  }
  append(...nodes) {
    for (const node of nodes) {
      node.parent?.childNodes.splice(node.parent.childNodes.indexOf(node), 1);
      if (node instanceof Node) node.parent = this;
      this.childNodes.push(node);
    }
  }
  all(...tags) {
    const inner = this.childNodes.filter((node) => node instanceof Node);
    return inner.flatMap((node) => [node, ...node.all(...tags)].filter(
      (each) => tags.includes(each.tag)));
  }
  get textContent() { return this.childNodes.map((node) => node.textContent ?? node).join(""); }
  get value() { return this.attributes.value; }
  get rows() { return this.all("tr"); }
  get cells() { return this.all("th", "td"); }
  get tHead() { return this.all("thead")[0]; }
  get tBodies() { return this.all("tbody"); }
  querySelector(tag) { return this.all(tag)[0] ?? null; }
  getAttribute(name) { return this.attributes[name] ?? null; }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  addEventListener(kind, call) { if (kind === "click") this.calls.push(call); }
  click() { for (const call of this.calls) call(); }
}
const root = new Node(PAGE);
const document = {
  createElement: (tag) => new Node([tag, {}, []]),
  querySelectorAll: (selector) =>
    root.all("table").filter((table) => `table.${table.attributes.class}` === selector),
};
const shown = (table) => ({
  names: table.tBodies[0].rows.map((row) => row.cells[0].textContent),
  sorted: table.tHead.rows[0].cells.map((head) => head.getAttribute("aria-sort")),
});
"""


class Tree(HTMLParser):
    """The body of a page as lists of tag, attributes and what is inside."""

    def __init__(self, document):
        super().__init__()
        self.open = [["page", {}, []]]
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attributes):
        node = [tag, dict(attributes), []]
        self.open[-1][2].append(node)
        if tag != "meta":
            self.open.append(node)

    def handle_startendtag(self, tag, attributes):
        self.open[-1][2].append([tag, dict(attributes), []])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.open[-1][2].append(data)


class Page:
    """A page whose script has run, and whose buttons can be pressed."""

    def __init__(self, document):
        self.script = re.search("<script>(.*)</script>", document, re.DOTALL)[1]
        self._engine = mini_racer.MiniRacer()
        self._engine.eval(DOM.replace("PAGE", json.dumps(Tree(document).open[0])))
        self._engine.eval(self.script)

    def press(self, column, table=0):
        """Press the button in the head of a column; return the names of the rows, and the state."""
        head = f"root.all('table').filter((t) => t.all('button').length)[{table}]"
        self._engine.eval(f"{head}.tHead.rows[0].cells[{column}].querySelector('button').click()")
        shown = json.loads(self._engine.eval(f"JSON.stringify(shown({head}))"))
        return shown["names"], shown["sorted"]

    def heads(self):
        """Return what the buttons of all tables say."""
        found = "root.all('thead').flatMap((head) => head.all('button')).map((b) => b.textContent)"
        return json.loads(self._engine.eval(f"JSON.stringify({found})"))


@pytest.fixture
def document():
    settings = {"labels": "y.npy", "logits": "x.npy", "reduction": "weighted_mean"}
    return Evaluation(
        0.5, settings, 1.0, (2, 3), "bool", "float32", 1.0, 1,
        slices={"kind": Groups(NAMES, LOSS, MEAN, ELEMENTS)},
        worst=[WorstRow(12, "b.npy", 2, 9.0), WorstRow(9, "a.npy", 9, 8.0)],
    ).to_html()  # fmt: skip


@pytest.fixture
def page(document):
    return Page(document)


def expected(values, descending):
    """Return the names in the order of values; NaN is the greatest, and equals keep their order."""
    ranks = [(value != value, 0.0 if value != value else value) for value in values.tolist()]
    order = sorted(range(len(ranks)), key=ranks.__getitem__)
    if descending:
        order = sorted(order, key=ranks.__getitem__, reverse=True)
    return [NAMES[place] or "(empty)" for place in order]


@pytest.mark.parametrize(("column", "values"), [(1, LOSS), (2, MEAN), (3, ELEMENTS)])
def test_numbers_are_sorted_by_all_their_digits_and_nan_is_the_greatest(page, column, values):
    assert page.press(column)[0] == expected(values, True)
    assert page.press(column)[0] == expected(values, False)
    assert page.press(column)[0] == expected(values, True)


def test_text_is_sorted_as_people_do_with_numbers_in_it(page):
    ascending = ["(empty)", "A", "Ä", "b", "class 9", "class 10", "null"]
    assert page.press(0)[0] == ascending[::-1]
    assert page.press(0)[0] == ascending


def test_rows_stay_whole_and_tables_apart(page):
    assert page.press(0, table=1)[0] == ["12", "9"]
    assert page.press(0, table=1)[0] == ["9", "12"]
    # By files, which are text.
    assert page.press(2, table=1)[0] == ["12", "9"]
    assert page.press(3)[0] == expected(ELEMENTS, True)
    assert page.press(1, table=1)[0] == ["12", "9"]


def test_the_column_and_the_order_are_told_to_those_who_listen(page):
    assert page.press(1)[1] == [None, "descending", None, None]
    assert page.press(1)[1] == [None, "ascending", None, None]
    assert page.press(3)[1] == [None, None, None, "descending"]


def test_every_head_is_a_button_which_the_keyboard_reaches_and_presses(page):
    heads = ["kind", "loss (nats)", "mean label", "elements"]
    assert page.heads() == [*heads, "row", "loss (nats)", "file", "row in the file"]


def test_the_policy_of_the_page_lets_this_script_run(document, page):
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in document
