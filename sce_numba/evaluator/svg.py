"""Pictures as SVG: whose colours a page chooses, or those of a light or a dark one."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping

from .pictures import COLORS, STYLE, WIDTH, Picture

# What the page that has the picture calls its colours.
VARIABLES = {light: f"var(--{name})" for name, (light, _) in COLORS.items()}
LIGHT: Mapping[str, str] = {}
DARK = dict(COLORS.values())


def svg(picture: Picture, colors: Mapping[str, str] = VARIABLES) -> str:
    """Return an element of SVG, the same whenever the picture is.

    Parameters
    ----------
    picture
        What to draw.
    colors
        What to write in place of the colours of a light page.

    Returns
    -------
    str
        The element; on a page with others no name in it is that of something else.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    fonts = {"svg.fonttype": "none", "svg.hashsalt": ascii(picture.name)}
    file = io.StringIO()
    # Whatever the user's own style is; and a browser has the letters that this font lacks.
    with style.context(["default", STYLE | fonts]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = Figure(figsize=(WIDTH, picture.height), layout="constrained")
        picture.draw(figure)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    # These names are the same in every picture, and nothing refers to them.
    drawn = re.sub(r' id="[\w.]+_\d+"', "", drawn)
    return re.sub(r"<[^>]+>", lambda tag: _recoloured(tag[0], colors), drawn)


def _recoloured(tag: str, colors: Mapping[str, str]) -> str:
    return re.sub("#[0-9a-f]{6}", lambda color: colors.get(color[0], color[0]), tag)
