"""Replaces links from the documentation to repository files outside the site by those files' paths."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]+)\)")


def on_page_markdown(markdown, page, **_):
    """Return the page with such links replaced; FileNotFoundError if the repository has no such file."""
    folder = Path(page.file.abs_src_path).parent

    def path_of(link):
        target = (folder / link[2]).resolve(strict=True)
        if target.is_relative_to(REPOSITORY / "deploy" / "docs"):
            return link[0]
        return f"{link[1]} (`{target.relative_to(REPOSITORY)}`)"

    return OUTSIDE.sub(path_of, markdown)
