"""Which photographs take so much memory to decode that few may be decoded at a time."""

from unittest.mock import MagicMock

import pytest

from shared import photograph
from shared.photograph import decode_photograph
from tests import images


@pytest.mark.parametrize(
    ("data", "waits"),
    [
        (images.encode(images.lesion(), "WEBP"), True),
        (images.encode(images.lesion(), "PNG"), True),
        (images.encode(images.lesion(), "JPEG", progressive=True), True),
        (images.encode(images.lesion(), "JPEG"), False),
    ],
    ids=["webp", "png", "progressive", "jpeg"],
)
def test_what_takes_much_memory_to_decode_waits_for_its_turn_and_a_small_one_does_not(monkeypatch, data, waits):
    for many_pixels, expected in ((10**6, False), (10**4, waits)):
        monkeypatch.setattr(photograph, "_MANY_PIXELS", many_pixels)
        turn = MagicMock()
        decode_photograph(data, 64, turn)
        assert turn.__enter__.called is expected
