"""A picture: its diagram, and every format of it."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from dagtrain.draw.diagram import Diagram
from dagtrain.draw.dot import to_dot
from dagtrain.draw.html import page
from dagtrain.draw.mermaid import to_mermaid
from dagtrain.draw.render import TIMEOUT, format_of, layout
from dagtrain.draw.svg import finish
from dagtrain.errors import ArgumentError, DagtrainError

__all__ = ["Picture", "render", "write_picture"]


class Picture:
    """A picture: `.svg`, `.dot`, `.mermaid`, `.html` as text, `.save(path)` in any format; a notebook shows it inline.

    Examples
    --------
    >>> import dagtrain as dt
    >>> from dagtrain.draw import draw
    >>> picture = draw(dt.array(2.0, name="a") * 3)
    >>> picture.dot.startswith("digraph")
    True
    """

    def __init__(self, diagram: Diagram, *, timeout: float = TIMEOUT) -> None:
        self.diagram = diagram
        self.timeout = timeout

    @classmethod
    def of(cls, diagram: Diagram, filename: str | os.PathLike[str] | None, format: str | None, timeout: float) -> Picture:
        """The picture of a diagram, also written to a file where one is named."""
        picture = cls(diagram, timeout=timeout)
        if filename is not None:
            picture.save(filename, format)
        return picture

    @cached_property
    def dot(self) -> str:
        """DOT text."""
        return to_dot(self.diagram)

    @cached_property
    def mermaid(self) -> str:
        """Mermaid text."""
        return to_mermaid(self.diagram)

    @cached_property
    def svg(self) -> str:
        """An `<svg>` element that follows light and dark by itself."""
        drawn = layout(self.dot, "svg", fixed=self.diagram.fixed, timeout=self.timeout).decode()
        mark = "dt" + hashlib.sha256(self.dot.encode()).hexdigest()[:8]
        return finish(drawn, self.diagram.title, mark)

    @cached_property
    def html(self) -> str:
        """A standalone page."""
        return page(self.svg, self.diagram.title or "dagtrain")

    def render(self, format: str = "svg") -> bytes:
        """The picture in a format, as bytes."""
        kind = format_of(None, format)
        if kind in ("png", "pdf"):
            return layout(self.dot, kind, fixed=self.diagram.fixed, timeout=self.timeout)
        text = {"svg": lambda: self.svg, "dot": lambda: self.dot, "html": lambda: self.html, "mmd": lambda: self.mermaid}[kind]()
        return text.encode()

    def save(self, filename: str | os.PathLike[str], format: str | None = None) -> Path:
        """Write the picture to a file; the ending of its name tells the format (svg, png, pdf, html, dot, mmd). Makes its folder."""
        return write_picture(filename, self.render(format_of(filename, format)))

    def __repr__(self) -> str:
        title = f" {self.diagram.title!r}" if self.diagram.title else ""
        return f"<Picture{title}: {len(self.diagram.nodes)} nodes, {len(self.diagram.edges)} edges>"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        # A notebook shows the plain text when Graphviz is absent or fails: a repr never raises.
        try:
            return {"text/html": self.svg, "text/plain": repr(self)}
        except DagtrainError as error:
            return {"text/plain": f"{self!r}\n{error}"}
        except Exception as error:
            return {"text/plain": f"{self!r}\nThe picture could not be drawn: {error}"}


def write_picture(filename: str | os.PathLike[str], data: bytes) -> Path:
    """Write a picture to a file, in a folder that is made where there is none: it may be what long work ends with."""
    path = Path(filename)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def render(
    dot: str | Diagram | Picture, filename: str | os.PathLike[str] | None = None, format: str | None = None, *, timeout: float = TIMEOUT
) -> bytes:
    """Render DOT text, or a diagram, and write it to a file if one is named.

    Parameters
    ----------
    dot
        DOT text, a `Diagram` or a `Picture`.
    filename
        Where to write, in a folder that is made where there is none; its ending tells the format if `format` does not.
    format
        "svg" (default), "png", "pdf", "dot", "html", "mmd" (Mermaid; of a diagram or picture only).
    timeout
        Seconds after which Graphviz is stopped.

    Examples
    --------
    >>> render("digraph { a -> b }", format="svg").startswith(b"<svg")
    True
    """
    kind = format_of(filename, format)
    if isinstance(dot, str):
        data = _render_text(dot, kind, timeout)
    else:
        picture = dot if isinstance(dot, Picture) else Picture(dot, timeout=timeout)
        data = picture.render(kind)
    if filename is not None:
        write_picture(filename, data)
    return data


def _render_text(dot: str, kind: str, timeout: float) -> bytes:
    if kind in ("png", "pdf"):
        return layout(dot, kind, timeout=timeout)
    if kind == "dot":
        return dot.encode()
    if kind == "mmd":
        raise ArgumentError("Mermaid is made of a picture's description, not of DOT text: give the Picture or Diagram.")
    svg = finish(layout(dot, "svg", timeout=timeout).decode())
    return (svg if kind == "svg" else page(svg, "dagtrain")).encode()
