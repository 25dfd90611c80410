"""An executed notebook as a web page."""

import re
from pathlib import Path


def as_page(notebook: Path) -> str:
    """Lay out an executed notebook as HTML that loads nothing from other hosts; nbconvert raises for a damaged one."""
    from nbconvert import HTMLExporter  # takes half a second to import

    text, _ = HTMLExporter(embed_images=True).from_filename(str(notebook))
    # Scripts for widgets and formulas, of which no notebook here has any that would work in a page.
    return re.sub(r'<script[^>]* src="https://[^"]*"[^>]*>\s*</script>', "", text)
