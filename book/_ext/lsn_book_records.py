"""Numbers of recorded runs in pages: tables, numbers in sentences, and where both come from.

A cell or a role names a record of `book/results` and a path in its metrics, with an optional format:
`two_stage_sigmoid:overall/psnr_db:.1f`. Of a list, `task=jsw,share=1.0` is the one entry with these fields. A summary
is shown as its mean with its 95 % interval, or with its SD where it has none; null as "not stated", `a - b` as a
difference and `a / b` as a ratio of means. A page cannot state a number that no record holds: the build fails.
"""

import re

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective, SphinxRole

from lsn_core.files import InputError
from lsn_core.results import recorded

TERM = r"[a-z_0-9]+:[^:|\s][^:|]*?(?::[+.\w%]+)?"
CELL = re.compile(rf"(?P<first>{TERM})(?:\s+(?P<sign>[-/])\s+(?P<second>{TERM}))?")
ROLE = re.compile(r"\{recorded\}`([^`]+)`")
FORMAT = ".3g"
MINUS, GLUE, JOIN = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}", "\N{WORD JOINER}"
MIDDLES = ("mean", "auc", "value")  # how summaries name what their interval is of


def look_up(term: str):
    """The value that a term names, its format, and the record's name. Raises `InputError` where there is none."""
    name, path, *form = term.split(":")
    value = recorded(name)["metrics"]
    for key in path.split("/"):
        try:
            value = _entry(value, key) if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError, ValueError):
            raise InputError(f"{term}: the record {name} has no {key!r} on this path; correct the page") from None
    return value, form[0] if form else FORMAT, name


def _entry(entries: list, key: str):
    """The entry at an index, or the one whose fields are as `key` says; `KeyError` where it is not the only one."""
    if "=" not in key:
        return entries[int(key)]
    wanted = dict(field.split("=") for field in key.split(","))
    found = [one for one in entries if all(str(one.get(name)) == value for name, value in wanted.items())]
    if len(found) != 1:
        raise KeyError(key)
    return found[0]


def show(text: str) -> tuple[str, set[str]]:
    """A cell's text with numbers in the place of terms, and the names of the records they are from.

    Text that is no term stays as it is; the roles in it are shown when it is parsed.
    """
    match = CELL.fullmatch(" ".join(text.split()))
    if not match:
        return text, {name for inner in ROLE.findall(text) for name in show(inner)[1]}
    value, form, name = look_up(match["first"])
    if not match["sign"]:
        return _shown(value, form), {name}
    other, _, second = look_up(match["second"])
    pair = _middle(value), _middle(other)
    if None in pair:
        return "–", {name, second}
    return _number(pair[0] - pair[1] if match["sign"] == "-" else pair[0] / pair[1], form), {name, second}


def _middle(value):
    """What a summary is a summary of, or the number itself. Raises `InputError` for a dict that is no summary."""
    if not isinstance(value, dict):
        return value
    for name in MIDDLES:
        if name in value:
            return value[name]
    raise InputError(f"{', '.join(map(str, value))}: no number, but several; go on with the path in the page")


def _shown(value, form: str) -> str:
    """A number, a summary with its interval or SD, or a text."""
    middle = _middle(value)
    if middle is None:
        return "not stated"
    if not isinstance(middle, int | float):
        return str(middle)
    if isinstance(value, dict) and value.get("low") is not None:
        return f"{_number(middle, form)} [{_number(value['low'], form)},{GLUE}{_number(value['high'], form)}]"
    if isinstance(value, dict) and value.get("sd") is not None:
        return f"{_number(middle, form)}{GLUE}±{GLUE}{_number(value['sd'], form.lstrip('+'))}"
    return _number(middle, form)


def _number(value, form: str) -> str:
    """A number as it is printed: with a minus sign, and glued so that no line ends inside it."""
    text = format(value, form).replace("-", MINUS).replace("%", f"{GLUE}%")
    return text.replace(f"e{MINUS}", f"e{JOIN}{MINUS}{JOIN}")


class Recorded(SphinxRole):
    """A number in a sentence: {recorded}`record:path:format`."""

    def run(self):
        """The number's text."""
        return [nodes.Text(show(self.text)[0])], []


class Records(nodes.table):
    """A table that counts among no others: "Table 7" would be mistaken for one of the paper."""


class RecordTable(SphinxDirective):
    """A table whose lines are `head | cell | cell`; the first line holds the columns' heads, the argument its caption.

    A line that ends in `|` goes on in the next.
    """

    required_arguments, final_argument_whitespace, has_content = 1, True, True
    option_spec = {"name": directives.unchanged}  # noqa: RUF012

    def run(self):
        """A table with a caption, under which the records are named."""
        content = re.sub(r"\|\s*\n\s*", "| ", "\n".join(self.content))
        lines = [[cell.strip() for cell in line.split("|")] for line in content.splitlines() if line.strip()]
        if len({len(line) for line in lines}) != 1:
            raise self.error("the lines of a record-table differ in their number of cells")
        cells = [[show(cell) for cell in line] for line in lines]
        table = Records(classes=["lsn-records"])
        title, _ = self.parse_inline(self.arguments[0])
        table += nodes.title(self.arguments[0], "", *title)
        group = nodes.tgroup(cols=len(lines[0]))
        group += [nodes.colspec(colwidth=1, stub=1 if number == 0 else 0) for number in range(len(lines[0]))]
        group += nodes.thead("", self._row(cells[0]))
        group += nodes.tbody("", *map(self._row, cells[1:]))
        table += group
        self.add_name(table)
        names = sorted({name for line in cells for _, used in line for name in used})
        files = [nodes.literal("", f"{name}.json") for name in names]
        source = nodes.paragraph("", "From ", classes=["lsn-source"])
        for number, file in enumerate(files):
            source += [nodes.Text(", "), file] if number else [file]
        return [table, source]

    def _row(self, cells):
        """One line of the table; text in it is Markdown."""
        parsed = (nodes.paragraph("", "", *self.parse_inline(text)[0]) for text, _ in cells)
        return nodes.row("", *(nodes.entry("", cell) for cell in parsed))


class Provenance(SphinxDirective):
    """For each record that is named, where its numbers come from: a table of what the run wrote down."""

    required_arguments, final_argument_whitespace = 1, True

    def run(self):
        """One folded list for each record."""
        return [node for name in self.arguments[0].split() for node in self._record(name)]

    def _record(self, name: str):
        """The record's own words."""
        items = nodes.definition_list()
        for key, value in recorded(name)["provenance"].items():
            told = [nodes.paragraph("", line) for line in _told(value)]
            items += nodes.definition_list_item("", nodes.term("", key.replace("_", " ")), nodes.definition("", *told))
        box = nodes.container("", items, classes=["lsn-provenance"])
        head, foot = (nodes.raw("", html, format="html") for html in (DETAILS.format(name), "</details>"))
        return [head, box, foot]


DETAILS = '<details class="lsn-details"><summary><code>book/results/{}.json</code></summary>'


def _told(value) -> list[str]:
    """A value of the provenance as lines of text: of runs that were gathered one line each."""
    if not isinstance(value, dict):
        return [_flat(value)]
    pairs = [f"{key}: {_flat(inner)}" for key, inner in value.items()]
    return pairs if any(isinstance(inner, dict) for inner in value.values()) else ["; ".join(pairs)]


def _flat(value) -> str:
    """One value without structure."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b", r"\1", "not known" if value is None else str(value))


def setup(app) -> dict:
    """Register the role and the directives."""
    app.add_role("recorded", Recorded())
    app.add_directive("record-table", RecordTable)
    app.add_directive("provenance", Provenance)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
