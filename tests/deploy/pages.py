"""The documentation's pages and their fenced blocks."""

from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from deploy.site_links import REPOSITORY

PAGES = REPOSITORY / "deploy" / "docs"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, what else its fence says, and the line after the fence."""

    language: str
    title: str | None
    text: str
    line: int


def read_blocks(page: Path) -> list[Block]:
    """Return a page's fenced blocks in order."""
    return [_block(token) for token in MarkdownIt().parse(page.read_text()) if token.type == "fence"]


def _block(token: Token) -> Block:
    language, _, rest = token.info.partition(" ")
    title = rest.removeprefix('title="').removesuffix('"') if rest.startswith("title=") else None
    return Block(language, title, token.content, token.map[0] + 2)
