"""Changes to Graphviz's SVG for use in a page: a class and a stylesheet, real tooltips, and unique ids."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from dagtrain.draw.style import css
from dagtrain.draw.text import clean

__all__ = ["finish"]

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}"


def finish(text: str, title: str = "", mark: str = "") -> str:
    """Make a page-ready `<svg>` element of Graphviz's output.

    Parameters
    ----------
    text
        What ``dot -Tsvg`` wrote.
    title
        Accessible name of the picture.
    mark
        Put before every id, so that two pictures on one page do not share ids.
    """
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(text.encode())
    root.set("class", "dagtrain")
    root.set("role", "img")
    if title:
        root.set("aria-label", clean(title))
    for element in list(root.iter()):
        if mark and "id" in element.attrib:
            element.set("id", f"{mark}-{element.get('id')}")
        # Graphviz wraps items with a tooltip in links without a target; browsers show <title> more reliably than xlink:title.
        tips = [link.get(f"{_LINK}title", "").strip() for link in element.iter(f"{{{_SVG}}}a")] if _is_item(element) else []
        if _is_item(element):
            _unwrap(element)
            _centre(element)
            _retitle(element, next((tip for tip in tips if tip), ""))
    style = ElementTree.Element(f"{{{_SVG}}}style")
    style.text = css()
    root.insert(0, style)
    return re.sub(r"\n\s*\n+", "\n", ElementTree.tostring(root, encoding="unicode"))


def _is_item(element: ElementTree.Element) -> bool:
    kinds = element.get("class", "").split()
    return bool(kinds) and kinds[0] in ("graph", "node", "edge", "cluster")


def _unwrap(element: ElementTree.Element) -> None:
    """Replace `<g><a>…</a></g>` inside an item by its children."""
    children: list[ElementTree.Element] = []
    for child in element:
        inner = child.find(f"{{{_SVG}}}a") if child.tag == f"{{{_SVG}}}g" and child.get("class") is None else None
        children += [child] if inner is None else list(inner)
    element[:] = children


def _centre(element: ElementTree.Element) -> None:
    """Centre a node's lines of text.

    Graphviz fixes where each line begins, by the widths of its own font; in a reader's wider or narrower font the text would be off centre,
    or outside.
    """
    shape = next((child for child in element if child.tag in (f"{{{_SVG}}}{kind}" for kind in ("polygon", "path", "ellipse"))), None)
    if shape is None or element.get("class", "").split()[0] != "node":
        return
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", shape.get("points") or shape.get("d") or "")]
    middle = float(shape.get("cx") or (min(numbers[::2]) + max(numbers[::2])) / 2)
    for text in element.iter(f"{{{_SVG}}}text"):
        text.set("text-anchor", "middle")
        text.set("x", f"{middle:g}")


def _retitle(element: ElementTree.Element, tip: str) -> None:
    title = element.find(f"{{{_SVG}}}title")
    if title is None:
        return
    if tip:
        title.text = tip
    else:
        element.remove(title)
