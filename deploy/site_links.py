"""Links of the pages to the repository's other files, which the site does not hold: named there by their path."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]+)\)")


def on_page_markdown(markdown, page, **_):
    """The page with such links as paths; FileNotFoundError if the repository has no such file."""
    folder = Path(page.file.abs_src_path).parent

    def path_of(link):
        target = (folder / link[2]).resolve(strict=True)
        if target.is_relative_to(REPOSITORY / "deploy" / "docs"):
            return link[0]
        return f"{link[1]} (`{target.relative_to(REPOSITORY)}`)"

    return OUTSIDE.sub(path_of, markdown)
