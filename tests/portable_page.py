"""The page that reads photographs on the device, as a person uses it, and a network whose answers are known by hand."""

import json

import onnx
from onnx import helper, parser
from playwright.sync_api import Page, expect

from shared.domain import CLASSES
from tests import images

RED = images.encode(images.red_corner(640, 480), "PNG")

SIDE = 224
_NETWORK = """
<ir_version: 9, opset_import: ["" : 20]>
tiny (uint8[N,224,224,3] pixels) => (float[N,3] probabilities, float[N,3,7,7] maps) {
  values = Cast<to=1>(pixels)
  planes = Transpose<perm=[0,3,1,2]>(values)
  maps = AveragePool<kernel_shape=[32,32], strides=[32,32]>(planes)
  pooled = GlobalAveragePool(planes)
  means = Flatten(pooled)
  temperature = Constant<value_float=20.0>()
  logits = Div(means, temperature)
  probabilities = Softmax(logits)
}
"""


def write_tiny_model(version: str = "1") -> bytes:
    """Return a file as `dermqueue export` writes it. Red stands for melanoma, green for keratosis, blue for nevus."""
    model = parser.parse_model(_NETWORK)
    steps = [
        {"resize": [256, 256], "filter": "bicubic", "of": "the whole frame, upright, sRGB"},
        {"jpeg_quality": 75, "subsampling": "4:2:0"},
        {"resize": [SIDE, SIDE], "filter": "bilinear"},
    ]
    point = {"name": "screening", "threshold": 0.3, "sensitivity": 0.95, "specificity": 0.4}
    said = {
        "name": "tiny",
        "version": version,
        "digest": "0" * 64,
        "licence": "MIT",
        "measured_on": "nothing",
        "limits": json.dumps(["It has learnt nothing."]),
        "labels": json.dumps(CLASSES),
        "preprocessing": json.dumps({"steps": steps}),
        "operating_points": json.dumps([point]),
        "default_operating_point": "screening",
        "heatmap_scales": json.dumps([250.0, 250.0, 250.0]),
    }
    helper.set_model_props(model, said)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def open_portable(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.get_by_role("status")).to_have_text("Ready. From now on, this page also works offline.")


def read(page: Page, data: bytes, media_type: str = "image/png") -> list[float]:
    """Choose a photograph, and return the probabilities that the page shows for it, by the length of its bars."""
    choose(page, data, media_type)
    expect(page.locator("#result")).to_be_visible()
    bars = page.locator("#scales rect:not(.ground)")
    return bars.evaluate_all("bars => bars.map((bar) => bar.getAttribute('width') / 1000)")


def choose(page: Page, data: bytes, media_type: str) -> None:
    page.locator("#file").set_input_files({"name": "mole", "mimeType": media_type, "buffer": data})
