"""Small photographs for lists, and those that were sent last."""

import io
from collections import OrderedDict
from threading import Lock

from PIL import Image

THUMBNAIL_SIDE = 160
"""Pixels of the longer side: twice what a list shows, for screens of high density."""

_KEPT = 1000  # of some 5 kB


class Thumbnails:
    """The thumbnails that one process sent last, by the photograph's key, which no two cases share."""

    def __init__(self, kept: int = _KEPT):
        self._kept = kept
        self._drawn: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> bytes | None:
        """Return a thumbnail if it is known. It is the caller who checks that its case may still be seen."""
        with self._lock:
            if key in self._drawn:
                self._drawn.move_to_end(key)
            return self._drawn.get(key)

    def keep(self, key: str, thumbnail: bytes) -> None:
        """Remember a thumbnail; when there are too many, forget the one that was last sent the longest ago."""
        with self._lock:
            self._drawn[key] = thumbnail
            if len(self._drawn) > self._kept:
                self._drawn.popitem(last=False)


def draw_thumbnail(photograph: Image.Image) -> bytes:
    """Return a JPEG of at most `THUMBNAIL_SIDE` pixels a side; shrinks the given image itself."""
    photograph.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    photograph.save(file, "JPEG", quality=75)
    return file.getvalue()
