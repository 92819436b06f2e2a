"""Each of some hundred broken files has the outcome that the table states."""

import pytest
from PIL import Image, ImageFile

from shared.photograph import decode_photograph
from tests import images
from tests.broken_images import broken_images
from tests.fuzz.path import put_through


@pytest.mark.parametrize("name", broken_images())
def test_a_broken_file_has_its_outcome(name):
    data, fate = broken_images()[name]
    assert put_through(data) == fate


@pytest.mark.parametrize("name", images.good_photographs())
def test_a_good_photograph_is_accepted(name):
    assert put_through(images.good_photographs()[name][0]).startswith("taken")


def test_no_other_format_can_be_decoded_and_no_incomplete_file(monkeypatch):
    def refuse(*_):
        raise AssertionError("Image.open tries every format that Pillow knows")

    monkeypatch.setattr(Image, "open", refuse)
    monkeypatch.setattr(Image, "OPEN", {})
    for data, _ in images.good_photographs().values():
        decode_photograph(data, 64)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
