"""The colours of a heatmap show what the map says, and nothing where the map is zero."""

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from shared.heatmap import (
    MAX_OPACITY,
    draw_heatmap,
    draw_overlay,
    encode_overlay,
    encode_png,
    fit_overlay,
    overlay_as_png,
    scale_to_saliency,
)
from tests import images


def constant(value: float) -> np.ndarray:
    return np.full((7, 7), value, np.float32)


def test_saliency_is_a_share_of_the_models_scale_and_not_of_the_maps_own_maximum():
    activation_map = np.array([[0.0, 0.5], [2.0, 6.0]], np.float16)
    saliency = scale_to_saliency(activation_map, 4.0)
    assert saliency.dtype == np.float32
    assert saliency.tolist() == [[0.0, 0.125], [0.5, 1.0]]


def test_a_harmless_lesion_shows_no_hot_spot():
    faint = np.zeros((7, 7), np.float32)
    faint[3, 3] = 0.1
    red, _, blue = draw_heatmap(scale_to_saliency(faint, 5.0), (70, 70)).split()
    assert red.getextrema()[1] < blue.getextrema()[1]


@pytest.mark.parametrize(
    ("value", "colour"),
    # The polynomial by hand, times 255: at 0 its constant terms, at 1 the sums of its coefficients.
    [(0.0, (35, 23, 27)), (0.2, (47, 158, 245)), (1.0, (144, 13, 0))],
)
def test_the_colours_are_turbos(value, colour):
    assert draw_heatmap(constant(value), (20, 10)).getpixel((10, 5)) == pytest.approx(colour, abs=1)


def test_a_heatmap_has_the_size_asked_for_and_peaks_where_the_map_does():
    peak = np.zeros((7, 7), np.float32)
    peak[1, 5] = 1.0
    heatmap = draw_heatmap(peak, (140, 70))
    assert (heatmap.size, heatmap.mode) == ((140, 70), "RGB")
    red = np.asarray(heatmap)[:, :, 0].astype(int)
    # The cell in row 1 and column 5 spans rows 10 to 19 and columns 100 to 119.
    row, column = np.unravel_index(red.argmax(), red.shape)
    assert (row // 10, column // 20) == (1, 5)


def test_a_sharp_edge_in_the_map_overshoots_into_no_other_colour():
    edge = np.zeros((8, 8), np.float32)
    edge[:, 4:] = 1.0
    heatmap = np.asarray(draw_heatmap(edge, (160, 80)))
    # Cells are 20 pixels wide; from the centres of columns 3 and 4 outwards the curve lies at or beyond 0 and 1.
    assert (heatmap[:, :70] == (35, 23, 27)).all()
    assert (heatmap[:, 90:] == (144, 13, 0)).all()


def test_the_photograph_is_unchanged_to_the_pixel_where_saliency_is_zero():
    photograph = images.lesion()
    assert draw_overlay(photograph, constant(0.0)).tobytes() == photograph.tobytes()
    half = np.zeros((8, 8), np.float32)
    half[:, 6:] = 1.0
    overlay, original = np.asarray(draw_overlay(photograph, half)), np.asarray(photograph)
    assert (overlay[:, :160] == original[:, :160]).all()
    assert (overlay[:, 300:] != original[:, 300:]).any()


def test_full_saliency_leaves_the_photograph_visible():
    overlay = draw_overlay(Image.new("RGB", (40, 30), "white"), constant(1.0))
    hottest = draw_heatmap(constant(1.0), (40, 30)).getpixel((20, 15))
    by_hand = [255 * (1 - MAX_OPACITY) + MAX_OPACITY * channel for channel in hottest]
    assert overlay.getpixel((20, 15)) == pytest.approx(by_hand, abs=1)


def test_opacity_follows_saliency():
    black = Image.new("RGB", (40, 30))
    blue = draw_heatmap(constant(0.25), (40, 30)).getpixel((20, 15))
    by_hand = [0.25 * MAX_OPACITY * channel for channel in blue]
    assert draw_overlay(black, constant(0.25)).getpixel((20, 15)) == pytest.approx(by_hand, abs=1.5)


def test_drawing_leaves_photograph_and_map_as_they_were():
    photograph, saliency = images.lesion(), constant(0.5)
    before = photograph.tobytes()
    draw_overlay(photograph, saliency)
    assert photograph.tobytes() == before
    assert (saliency == 0.5).all()


def test_a_png_holds_the_pixels_and_nothing_else():
    image = images.lesion()
    image.info = {"icc_profile": images.swapped_profile(), "dpi": (72, 72), "comment": images.SECRET}
    data = encode_png(image)
    decoded = Image.open(io.BytesIO(data), formats=("PNG",))
    assert decoded.tobytes() == image.tobytes()
    assert decoded.info == {}
    assert images.SECRET not in data


def test_a_stored_overlay_keeps_colours_and_edges_and_says_nothing_else():
    edge = np.zeros((8, 8), np.float32)
    edge[:, 4:] = 1.0
    overlay = draw_overlay(images.lesion(), edge)
    overlay.info = {"icc_profile": images.swapped_profile(), "comment": images.SECRET}
    stored = encode_overlay(overlay)
    decoded = Image.open(io.BytesIO(stored), formats=("JPEG",))
    assert np.abs(np.asarray(decoded).astype(int) - np.asarray(overlay)).mean() < 3
    assert JpegImagePlugin.get_sampling(decoded) == 0  # 4:4:4
    assert not {"icc_profile", "comment", "exif"} & decoded.info.keys()
    assert images.SECRET not in stored


def test_a_stored_overlay_is_served_as_a_png_of_its_pixels_and_a_png_as_it_is():
    stored = encode_overlay(draw_overlay(images.lesion(), constant(0.5)))
    served = overlay_as_png(stored)
    shown = Image.open(io.BytesIO(served), formats=("PNG",))
    assert shown.tobytes() == Image.open(io.BytesIO(stored)).tobytes()
    assert overlay_as_png(served) == served


@pytest.mark.parametrize(
    ("photograph", "overlay"),
    [((1504, 1129), (512, 384)), ((3000, 6000), (256, 512)), ((5000, 500), (512, 51)), ((400, 300), (400, 300))],
)
def test_an_overlay_is_small_and_keeps_the_photographs_shape(photograph, overlay):
    assert fit_overlay(photograph) == overlay
