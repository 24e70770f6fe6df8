"""Pictures as SVG, in colours that a page chooses, or in those of a light or dark page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping

from .pictures import COLORS, STYLE, WIDTH, Picture

# The colours as variables of the page's style sheet.
VARIABLES = {light: f"var(--{name})" for name, (light, _) in COLORS.items()}
LIGHT: Mapping[str, str] = {}
DARK = dict(COLORS.values())


def svg(picture: Picture, colors: Mapping[str, str] = VARIABLES) -> str:
    """Return an SVG element, the same text for the same picture.

    Parameters
    ----------
    picture
        What to draw.
    colors
        What to replace the colours of a light page with.

    Returns
    -------
    str
        The element; its ids don't clash with those of other pictures on a page.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    fonts = {"svg.fonttype": "none", "svg.hashsalt": ascii(picture.name)}
    file = io.StringIO()
    # Independent of the user's style; a browser has the letters that this font lacks.
    with style.context(["default", STYLE | fonts]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = Figure(figsize=(WIDTH, picture.height), layout="constrained")
        picture.draw(figure)
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=no_metadata)
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    # These ids are the same in every picture, and nothing refers to them.
    drawn = re.sub(r' id="[\w.]+_\d+"', "", drawn)
    return re.sub(r"<[^>]+>", lambda tag: _recoloured(tag[0], colors), drawn)


def _recoloured(tag: str, colors: Mapping[str, str]) -> str:
    return re.sub("#[0-9a-f]{6}", lambda color: colors.get(color[0], color[0]), tag)
