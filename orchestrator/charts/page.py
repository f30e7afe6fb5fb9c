"""What the pages of all reports share: the engine that escapes, the look, and the policy that keeps a page to itself.

Contract: a page is one file that fetches nothing. Its own script is the only one that runs, by its hash; pictures and
clips come from within the page. Everything that is filled into a template is escaped, but for what a caller marked as
its own markup. The same content gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
_STYLE, _SCRIPT = "page.css", "page.js"
_MEDIA = "img-src data:; media-src data:; "


def environment(folder: Path) -> Environment:
    """An engine for the templates of a folder, which escapes and lets no name be missing."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def filled(engine: Environment, folder: Path, template: str, content: Mapping[str, Any], *, media: bool = False) -> str:
    """A page.

    Args:
        engine: of `environment`.
        folder: where `page.css` and `page.js` of this kind of report are; those of all reports go before them.
        template: which one; it shows `policy`, `style` and `script`.
        content: what else it fills in.
        media: whether the page holds pictures and clips.
    """
    from markupsafe import Markup

    style, script = _both(folder, _STYLE), _both(folder, _SCRIPT)
    return engine.get_template(template).render(
        style=Markup(style), script=Markup(script), policy=Markup(_policy(script, media)), **content
    )


def _both(folder: Path, name: str) -> str:
    return "".join((place / name).read_text(encoding="utf-8") for place in (_HERE, folder))


def _policy(script: str, media: bool) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; {_MEDIA if media else ''}style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
