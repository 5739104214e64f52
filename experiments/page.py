"""How the HTML pages of results look: one self-contained file, nothing on it is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from controller.config import versions
from controller.errors import ConfigError

_CSS = """
:root { --ink: #1d2530; --soft: #5b6572; --line: #dfe3e9; --tint: #f6f8fa; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.5rem 4rem; background: #fff; color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
p, figcaption { color: var(--soft); max-width: 50rem; }
p { margin: .3rem 0 .8rem; }
figure { margin: .8rem 0 1.2rem; break-inside: avoid; }
figcaption { font-size: .85rem; margin-top: .2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { background: var(--tint); font-weight: 600; color: var(--soft); }
th:first-child, td:first-child { text-align: left; font-weight: 600; }
.note { border-left: 3px solid #d55e00; background: #fdf4ee; padding: .6rem .9rem; color: var(--ink); }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; color: var(--soft);
  font-size: .8rem; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } h2 { break-after: avoid; }
  .scroll { overflow: visible; } }
"""


def page(title: str, body: Sequence[str], what: str) -> str:
    """A whole page.

    Args:
        title: Shown by the browser.
        body: Parts of HTML.
        what: The kind of result, named in the footer beside the versions that can change it.
    """
    numbers = ", ".join(f"{name} {number}" for name, number in versions().items() if number)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - Provisor</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n<footer>Provisor {what}. {escape(numbers)}.</footer>\n</body>\n</html>\n"
    )


def table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of plain texts, the first column its names."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def write_page(text: str, path: Path) -> Path:
    """Writes a page, with its folder.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: expected a file that can be written, got: {error.strerror or error}") from error
    return path
