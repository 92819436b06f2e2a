"""Photographs read in Chromium, on a folder from any file server, against what the worker's code says of them."""

import base64
import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Browser, Page, expect

from api.pages import portable
from deploy.commands.demo import SAMPLES
from shared.heatmap import draw_overlay, fit_overlay, saliency
from shared.photograph import decode_photograph, squash
from tests import images
from tests.api.pages.portable_page import RED, SIDE, choose, open_portable, read, write_tiny_model
from tests.browsing import SIZES, find_faults

VENDORED = Path(portable.__file__).parent / "on_device" / "onnxruntime"


class Server(SimpleHTTPRequestHandler):
    """A file server that knows nothing of us, and is quiet."""

    def log_message(self, *_) -> None: ...


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=folder))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """Where the page is, with the tiny network: not at the server's root."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "tiny.onnx").write_bytes(write_tiny_model())
    portable.write_folder(folder / "skin", folder / "tiny.onnx")
    with served(folder) as host:
        yield f"{host}/skin/"


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


@cache
def twenty_photographs() -> dict[str, tuple[bytes, str]]:
    """Return files with their media types: the samples, and what cameras and people make of such."""
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

    def read(self, data: bytes) -> tuple[np.ndarray, Image.Image]:
        photograph = decode_photograph(data, min_side=2 * SIDE)
        pixels = squash(photograph, SIDE)[None]
        probabilities, maps = self._session.run(["probabilities", "maps"], {"pixels": pixels})
        fit_overlay(photograph)
        return probabilities[0], draw_overlay(photograph, saliency(maps[0, 0], self._scales[0]))


def test_of_twenty_photographs_the_page_says_and_draws_what_the_server_does_and_sends_nothing(browser, tmp_path):
    portable.write_folder(tmp_path, portable.SHIPPED_MODEL)
    expected, apart, sent = Expected(portable.SHIPPED_MODEL), {}, []
    with served(tmp_path) as host, opened(browser, f"{host}/") as page:
        page.context.on("request", lambda request: sent.append(request.url))
        for name, (data, media_type) in twenty_photographs().items():
            probabilities, overlay = expected.read(data)
            shown, drawn = read(page, data, media_type), picture_in(page, "#overlay")
            colours = np.abs(np.asarray(drawn, int) - np.asarray(overlay)).mean()
            apart[name] = np.abs(shown - probabilities).max(), colours
    assert len(apart) == 20
    assert {name: by for name, by in apart.items() if not (by[0] <= 0.02 and by[1] <= 3)} == {}
    assert sent == []


def test_the_red_is_found_where_it_is(browser, address):
    with opened(browser, address) as page:
        red, green, blue = read(page, RED)
        assert red > 0.5 > green == pytest.approx(blue, abs=0.02)
        expect(page.get_by_text("Suggestion at “screening”: Refer")).to_be_visible()
        expect(
            page.get_by_text("Its figures are those on the card of its own bundle, and not the server’s.")
        ).to_be_visible()
        assert is_hot(page, 100, 100)
        assert not is_hot(page, 400, 300)
        page.get_by_role("button", name="Nevus").click()
        expect(page.get_by_text("Heatmap of nevus")).to_be_visible()
        assert not is_hot(page, 100, 100)
        page.get_by_label("Heatmap’s strength").press("Home")
        expect(page.locator("#overlay")).to_have_css("opacity", "0")
        expect(page.get_by_role("link", name="Back to the cases")).to_be_hidden()


def is_hot(page: Page, x: int, y: int) -> bool:
    """Tell whether Turbo's dark red end lies over a place."""
    plain, drawn = (picture_in(page, canvas).getpixel((x, y)) for canvas in ("#photograph", "#overlay"))
    print(plain, drawn)
    return drawn[2] < plain[2] / 2


def test_once_opened_it_needs_no_server_any_more(browser, address):
    with opened(browser, address) as page:
        before = read(page, RED)
        page.context.set_offline(True)
        open_portable(page, address)
        assert read(page, RED) == before


@pytest.mark.parametrize(
    ("data", "media_type", "words"),
    [
        (images.encode(Image.new("RGB", (300, 200), "black"), "PNG"), "image/png", "one flat colour"),
        (images.encode(images.red_corner(60, 60), "PNG"), "image/png", "needs at least 64"),
        (images.encode(images.red_corner(1000, 90), "PNG"), "image/png", "at most 10 times"),
        (b"text", "image/jpeg", "cannot be decoded"),
        (b"text", "text/plain", "taken as JPEG, PNG or WebP"),
    ],
)
def test_a_photograph_that_cannot_be_read_is_refused_in_words(browser, address, data, media_type, words):
    with opened(browser, address) as page:
        read(page, RED)
        choose(page, data, media_type)
        expect(page.get_by_role("status")).to_contain_text(words)
        expect(page.locator("#result")).to_be_hidden()
        assert len(read(page, RED)) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_fault_in_the_page_with_a_result(browser, address, scheme, size):
    with opened(browser, address, viewport=SIZES[size], color_scheme=scheme, has_touch=size == "narrow") as page:
        read(page, (SAMPLES / "ISIC_0000030.jpg").read_bytes(), "image/jpeg")
        assert find_faults(page, f"-portable-{size}-{scheme}") == []


def test_what_is_vendored_is_what_its_readme_names():
    digests = re.findall(r"`([0-9a-f]{64})`", (VENDORED / "README.md").read_text())
    found = [
        (VENDORED / "ort.wasm.bundle.min.js").read_bytes(),
        gzip.decompress((VENDORED / "ort-wasm-simd-threaded.wasm.gzip").read_bytes()),
    ]
    assert [hashlib.sha256(content).hexdigest() for content in found] == digests
