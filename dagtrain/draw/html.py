"""A standalone page with a picture inside: no other file, no network, light or dark as the reader chooses."""

from __future__ import annotations

from html import escape

from dagtrain.draw.style import COLORS

__all__ = ["page"]

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --page: {page_light}; --text: {text_light}; }}
@media (prefers-color-scheme: dark) {{ :root {{ --page: {page_dark}; --text: {text_dark}; }} }}
:root[data-theme="light"] {{ color-scheme: light; --page: {page_light}; --text: {text_light}; }}
:root[data-theme="dark"] {{ color-scheme: dark; --page: {page_dark}; --text: {text_dark}; }}
body {{ margin: 0; background: var(--page); color: var(--text); font: 15px Helvetica, Arial, sans-serif; }}
header {{ display: flex; justify-content: space-between; align-items: center; padding: 0.8rem 1.2rem; }}
h1 {{ font-size: 1rem; margin: 0; }}
button {{ font: inherit; color: inherit; background: none; border: 1px solid currentColor;
  border-radius: 6px; padding: 0.2rem 0.7rem; cursor: pointer; }}
main {{ padding: 0 1.2rem 1.2rem; overflow: auto; text-align: center; }}
</style>
</head>
<body>
<header><h1>dagtrain</h1><button type="button" id="theme">light / dark</button></header>
<main>
{svg}
</main>
<script>
document.getElementById("theme").addEventListener("click", () => {{
  const root = document.documentElement;
  const now = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
}});
</script>
</body>
</html>
"""


def page(svg: str, title: str) -> str:
    """HTML text of a page that shows an SVG element."""
    (page_light, page_dark), (text_light, text_dark) = COLORS["canvas"], COLORS["ink"]
    return _PAGE.format(
        svg=svg, title=escape(title), page_light=page_light, page_dark=page_dark, text_light=text_light, text_dark=text_dark
    )
