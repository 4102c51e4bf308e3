"""The commands of `lsn` in a page, as Typer itself documents them."""

import re

import typer
from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from typer.cli import get_docs_for_click

from lsn_core.cli import app


class Commands(SphinxDirective):
    """A section for each command, from its own help."""

    def run(self) -> list[nodes.Node]:
        """Typer's Markdown, without its title."""
        command = typer.main.get_command(app)
        told = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="lsn"), name="lsn")
        _, _, sections = told.partition("\n## ")
        return self.parse_text_to_nodes(re.sub(r"<(\w[\w ]*)>", r"\1", f"## {sections}"), allow_section_headings=True)


def setup(app) -> dict:
    """Register the directive."""
    app.add_directive("lsn-commands", Commands)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
