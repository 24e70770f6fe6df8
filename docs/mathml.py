"""Formulas as MathML, which browsers draw by themselves."""

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml


def _mathml(node, block):
    # Where the converter leaves the wrong space: around primes and logarithms, beside bars.
    source = node.astext().replace("'", r"^\prime ")
    source = source.replace(r"\log", r"\,\log").replace(r"\log ", r"\log\,")
    return tex2mathml(source, as_block=block).replace(">|</mo>", ' lspace="0" rspace="0">|</mo>')


def _inline(translator, node):
    translator.body.append(_mathml(node, block=False))
    raise SkipNode


def _displayed(translator, node):
    translator.body.append(f'<div class="formula">{_mathml(node, block=True)}</div>\n')
    raise SkipNode


def setup(app):
    """Add the renderer to Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))
    return {"parallel_read_safe": True}
