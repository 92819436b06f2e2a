"""The folder of `dermqueue export --web`, in Chromium, against what the worker's code says of the same photographs."""

import base64
import gzip
import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import ExifTags, Image
from playwright.sync_api import Browser, Page, expect

from api.pages import portable
from deploy.cli import main
from deploy.commands.demo import SAMPLES
from shared.bundle import find_bundle
from shared.heatmap import draw_overlay, fit_overlay, scale_to_saliency
from shared.photograph import decode_photograph
from tests import images
from tests.browsing import SIZES, find_faults
from tests.portable_page import RED, choose, open_portable, read
from tests.servers.serving import serving
from worker.frame import DECODED_SIDE, shrink_frame, squash_frame
from worker.model import load_model

VENDORED = Path(portable.__file__).parent / "on_device" / "onnxruntime"
SAMPLE = (SAMPLES / "ISIC_0000030.jpg").read_bytes()
PROBABILITY = 0.005
LEVELS = 0.5
"""Tolerances between page and server with the same file: of a probability, and of an overlay's mean level of 255."""
ROUNDED = 0.02
"""How far the page's probability may be from the server's with the bundle itself: the file has rounded its weights."""
UNREADABLE = [
    (images.encode(Image.new("RGB", (300, 200), "black"), "PNG"), "image/png", "one flat colour"),
    (images.encode(images.red_corner(60, 60), "PNG"), "image/png", "needs at least 64"),
    (images.encode(images.red_corner(1000, 90), "PNG"), "image/png", "at most 10 times"),
    (b"text", "image/jpeg", "cannot be decoded"),
    (b"text", "text/plain", "Only JPEG, PNG and WebP"),
]


class Server(SimpleHTTPRequestHandler):
    """A quiet file server without any of our code."""

    def log_message(self, *_) -> None: ...


def serving_files(folder: Path) -> AbstractContextManager[str]:
    return serving(ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=folder)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A page with the shipped light network, inside a folder that is served."""
    made = tmp_path_factory.mktemp("served") / "skin"
    done = CliRunner().invoke(main, ["export", "--bundle", "portable", "--int8", "--web", str(made)])
    assert done.exit_code == 0, done.output
    return made


@pytest.fixture(scope="module")
def expected(folder) -> "Expected":
    return Expected(folder / "portable.onnx")


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    with serving_files(folder.parent) as host:
        yield f"{host}/{folder.name}/"


@contextmanager
def opened(browser: Browser, address: str, **options) -> Iterator[Page]:
    """Open the page in a window of its own; at the end nothing may have gone wrong in it."""
    context, faults = browser.new_context(**options), []
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    open_portable(page, address)
    yield page
    context.close()
    assert faults == []


def picture_in(page: Page, canvas: str) -> Image.Image:
    address = page.locator(canvas).evaluate("canvas => canvas.toDataURL()")
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    """Return by how much two pictures differ, in levels of 255."""
    return np.abs(np.asarray(one, int) - np.asarray(other)).mean()


@cache
def twenty_photographs() -> dict[str, tuple[bytes, str]]:
    """Return files with their media types: the samples, and variants as cameras and people make them."""
    found = {file.name: (file.read_bytes(), "image/jpeg") for file in sorted(SAMPLES.glob("*.jpg"))}
    opened = [Image.open(io.BytesIO(data)).reduce(2) for data, _ in found.values()]
    width, height = opened[2].size
    see_through = opened[3].convert("RGBA")
    see_through.putalpha(Image.linear_gradient("L").resize(see_through.size))
    return found | {
        **{f"turned {n}": (turned(opened[n % 8], n), "image/jpeg") for n in (2, 3, 5, 6, 8)},
        "large": (images.encode(opened[0].resize((4000, 3000)), "JPEG", quality=92), "image/jpeg"),
        "progressive": (images.encode(opened[1], "JPEG", progressive=True), "image/jpeg"),
        "tall png": (images.encode(opened[2].crop((width // 3, 0, width // 2, height)), "PNG"), "image/png"),
        "see-through png": (images.encode(see_through, "PNG"), "image/png"),
        "small png": (images.encode(opened[4].resize((150, 112)), "PNG"), "image/png"),
        "webp": (images.encode(opened[5], "WEBP", quality=80), "image/webp"),
        "with profile": (images.encode(opened[6], "PNG", icc_profile=images.swapped_profile()), "image/png"),
    }


def turned(photograph: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return images.encode(photograph, "JPEG", quality=90, exif=exif)


class Expected:
    """What the server would answer with the same file: decoded, prepared and drawn by the code that its worker uses."""

    def __init__(self, model: Path):
        said = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
        self._session, self._scales = onnxruntime.InferenceSession(model), json.loads(said["heatmap_scales"])
        self._bundle = load_model(find_bundle("portable"), torch.device("cpu"))

    def of_bundle(self, data: bytes) -> np.ndarray:
        """Return the probabilities that a worker with the bundle gets."""
        return self._bundle.read(self._prepare(data)[1]).probabilities[0]

    def read(self, data: bytes, drawn: int = 0) -> tuple[np.ndarray, Image.Image]:
        """Return the file's probabilities, and the overlay of the class with this index."""
        photograph, pixels = self._prepare(data)
        probabilities, maps = self._session.run(["probabilities", "maps"], {"pixels": pixels})
        small = photograph.resize(fit_overlay(photograph.size), Image.Resampling.BILINEAR)
        return probabilities[0], draw_overlay(small, scale_to_saliency(maps[0, drawn], self._scales[drawn]))

    def _prepare(self, data: bytes) -> tuple[Image.Image, np.ndarray]:
        side = self._session.get_inputs()[0].shape[1]
        photograph = decode_photograph(data, DECODED_SIDE)
        return photograph, shrink_frame(squash_frame(photograph), side)[None]


def test_of_twenty_photographs_the_page_says_and_draws_what_the_server_does_and_sends_nothing(
    browser, address, expected
):
    apart, sent = {}, []
    with opened(browser, address) as page:
        page.context.on("request", lambda request: sent.append(request.url))
        for name, (data, media_type) in twenty_photographs().items():
            probabilities, overlay = expected.read(data)
            shown = read(page, data, media_type)
            of_bundle = np.abs(shown - expected.of_bundle(data)).max()
            difference = mean_difference(picture_in(page, "#overlay"), overlay)
            apart[name] = np.abs(shown - probabilities).max(), difference, of_bundle
    assert len(apart) == 20
    most = PROBABILITY, LEVELS, ROUNDED
    assert {name: by for name, by in apart.items() if not np.less_equal(by, most).all()} == {}
    assert sent == []


def test_a_result_comes_with_its_operating_point_whose_figures_these_are_and_every_classes_heatmap(
    browser, address, expected
):
    with opened(browser, address) as page:
        assert read(page, SAMPLE, "image/jpeg") == pytest.approx(expected.read(SAMPLE)[0], abs=PROBABILITY)
        expect(page.get_by_text(re.compile("Suggestion at “.+”: (Refer|Routine)"))).to_be_visible()
        expect(page.get_by_text("those of its own model card.")).to_be_visible()
        assert mean_difference(picture_in(page, "#overlay"), picture_in(page, "#photograph")) > 2 * LEVELS
        for index, name in enumerate(("Melanoma", "Seborrheic keratosis", "Nevus")):
            page.get_by_role("button", name=name).click()
            expect(page.get_by_role("figure").last).to_contain_text(f"Heatmap of {name.lower()}")
            assert mean_difference(picture_in(page, "#overlay"), expected.read(SAMPLE, index)[1]) <= LEVELS
        page.get_by_label("Heatmap opacity").press("Home")
        expect(page.locator("#overlay")).to_have_css("opacity", "0")
        expect(page.get_by_role("link", name="Back to cases")).to_be_hidden()


def test_a_file_server_that_runs_as_another_user_can_read_it(folder):
    modes = {(entry.is_dir(), entry.stat().st_mode & 0o777) for entry in (folder, *folder.rglob("*"))}
    assert modes == {(True, 0o755), (False, 0o644)}


def test_once_opened_it_needs_no_server_any_more(browser, address):
    with opened(browser, address) as page:
        before = read(page, RED)
        page.context.set_offline(True)
        open_portable(page, address)
        assert read(page, RED) == before


def test_a_photograph_that_cannot_be_read_is_refused_in_words_and_the_next_one_is_read(browser, address):
    with opened(browser, address) as page:
        read(page, RED)
        for data, media_type, words in UNREADABLE:
            choose(page, data, media_type)
            expect(page.get_by_role("status")).to_contain_text(words)
            expect(page.locator("#result")).to_be_hidden()
        assert len(read(page, RED)) == 3


def test_axe_finds_no_fault_in_the_page_with_a_result_wide_or_narrow_light_or_dark(browser, address):
    faults = []
    with opened(browser, address, has_touch=True, reduced_motion="reduce") as page:
        read(page, SAMPLE, "image/jpeg")
        for size, scheme in itertools.product(SIZES, ("light", "dark")):
            page.set_viewport_size(SIZES[size])
            page.emulate_media(color_scheme=scheme)
            faults += find_faults(page, f"-portable-{size}-{scheme}")
    assert faults == []


def test_what_is_vendored_is_what_its_readme_names():
    digests = re.findall(r"`([0-9a-f]{64})`", (VENDORED / "README.md").read_text())
    found = [
        (VENDORED / "ort.wasm.bundle.min.js").read_bytes(),
        gzip.decompress((VENDORED / "ort-wasm-simd-threaded.wasm.gzip").read_bytes()),
    ]
    assert [hashlib.sha256(content).hexdigest() for content in found] == digests
