"""Broken photographs and things that are none, each with what must come of it: nothing is left to chance.

The fate of a file is one of
- "intake CODE": refused by `inspect_photograph` or `strip_metadata`, when it is uploaded,
- "decoding CODE": taken at intake, refused by `decode_photograph`, in the worker,
- "taken WIDTH x HEIGHT": harmless after all; decoded in this size.
"""

import functools

from tests.broken_images.jpegs import broken_jpegs
from tests.broken_images.pngs import broken_pngs
from tests.broken_images.strangers import strangers
from tests.broken_images.webps import broken_webps


@functools.cache
def broken_images() -> dict[str, tuple[bytes, str]]:
    """Return every broken file by name, with its fate."""
    return broken_jpegs() | broken_pngs() | broken_webps() | strangers()
