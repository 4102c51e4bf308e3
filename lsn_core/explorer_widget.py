"""The JSW explorer as a live widget: in JupyterLab its controls and its traits follow each other.

The published book has no kernel: there the same output is the figure of `explorer_html`.
"""

import math
from typing import Any

import traitlets

from lsn_core.explorer import SCRIPT, STYLE, explorer_data, mime_bundle
from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.jsw import svdh_like

try:
    import anywidget
except ImportError as missing:
    raise InputError("the live explorer needs anywidget; install it with: pip install 'lsn-core[book]'") from missing

MOVES = ("delta_mm", "lower_slide_mm", "upper_slide_mm", "lower_degrees", "upper_degrees", "share")


class Explorer(anywidget.AnyWidget):
    """A joint whose bones move with its traits, which have the meanings and units of `Movement`, and its controls.

    What lies beyond the controls' ends is set to the end, as the sliders of ipywidgets do it. `jsw_mm` and `svdh_like`
    follow; they are None where the JSW is not known.
    """

    _esm = SCRIPT.read_text(encoding="utf-8")
    _css = STYLE
    joint = traitlets.Dict().tag(sync=True)  # of `explorer_data`; it does not change
    delta_mm = traitlets.Float(0.0).tag(sync=True)
    lower_slide_mm = traitlets.Float(0.0).tag(sync=True)
    upper_slide_mm = traitlets.Float(0.0).tag(sync=True)
    lower_degrees = traitlets.Float(0.0).tag(sync=True)
    upper_degrees = traitlets.Float(0.0).tag(sync=True)
    share = traitlets.Float(0.5).tag(sync=True)
    shown = traitlets.List(traitlets.Bool(), [True] * 3, minlen=3, maxlen=3).tag(sync=True)  # in the order of LAYERS
    jsw_mm = traitlets.Float(None, allow_none=True, read_only=True).tag(sync=True)
    svdh_like = traitlets.Int(None, allow_none=True, read_only=True).tag(sync=True)

    @traitlets.validate(*MOVES)
    def _within(self, proposal: Any) -> float:
        """A value within the ends of its control."""
        name, value = proposal.trait.name, proposal.value
        if not math.isfinite(value):
            raise traitlets.TraitError(f"{name} is {value}; give a number")
        if name == "share":
            return min(max(value, 0.0), 1.0)
        most = self.joint["limits"][name.removeprefix("lower_").removeprefix("upper_")][0]
        return min(max(value, -most), most)

    @traitlets.observe("joint", "delta_mm")
    def _measure(self, _: Any) -> None:
        """Let the JSW and its class follow the change."""
        if self.joint["jsw_mm"] is not None:
            self.set_trait("jsw_mm", self.joint["jsw_mm"] + self.delta_mm)
            self.set_trait("svdh_like", svdh_like(self.jsw_mm))

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        """The live view, and beside it what a page or a viewer without a kernel shows."""
        live, metadata = super()._repr_mimebundle_(**options)
        return live | mime_bundle(self.joint), metadata


def explorer_widget(joint: Joint, *, reach_mm: float = 3.0, label: str, bits: int = 8) -> Explorer:
    """The explorer of `explorer_html` as a widget, to be shown as the last line of a cell and linked to others.

    `ipywidgets.link((slider, "value"), (widget, "delta_mm"))` moves the bones with a slider of one's own. Raises
    `InputError` as `explorer_html` does.
    """
    return Explorer(joint=explorer_data(joint, reach_mm=reach_mm, label=label, bits=bits))
