"""The explorer of a joint in a Markdown page: a phantom, drawn and separated by the shipped network in the build."""

from dataclasses import replace

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from lsn_core.explorer import explorer_html
from lsn_core.networks import load_generator
from lsn_core.phantom import Phantom


class Explorer(SphinxDirective):
    """A joint whose bones the reader moves; the argument says what the picture shows, to those who cannot see it."""

    required_arguments, final_argument_whitespace = 1, True
    option_spec = dict(seed=directives.nonnegative_int, finger=directives.unchanged, size=directives.positive_int)  # noqa: RUF012, C408

    def run(self):
        """The figure's own markup."""
        options = {"seed": 7, "finger": "index", "size": 192} | self.options
        joint = Phantom(**options).render()
        layers = load_generator("compact")(joint.image[None], joint.masks[None])[0]
        html = explorer_html(replace(joint, layers=layers), label=self.arguments[0])
        return [nodes.raw("", html, format="html")]


def setup(app) -> dict:
    """Register the directive."""
    app.add_directive("joint-explorer", Explorer)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
