"""What a result has besides its probabilities: the overlay that is stored, and the warnings."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from shared.domain import CLASSES, Analysis
from shared.heatmap import draw_overlay, encode_overlay, scale_to_saliency
from shared.photograph import decode_photograph
from shared.store import cases
from tests import images
from tests.factories import add_photograph, clinic_caller
from tests.worker.networks import TinyNetwork, preprocess_to, tiny_model
from worker.frame import DECODED_SIDE, shrink_for_overlay, squash
from worker.model import Model


@pytest.fixture
def analyze(make_triage, database, store, clinic_id) -> Callable[[Model, bytes], Analysis]:
    """Take one photograph through a triage with a given model."""

    def analyze(model: Model, data: bytes) -> Analysis:
        case = add_photograph(database, store, clinic_id, data)
        make_triage(model).analyze_waiting()
        with database.reading() as session:
            return cases.read_case(session, clinic_caller(clinic_id), case.id).analysis

    return analyze


class LooksAt(TinyNetwork):
    """Activates some of its 4×4 cells, the same for any photograph, and no others."""

    def __init__(self, cells: tuple[slice, slice]):
        super().__init__()
        self._cells = cells
        torch.nn.init.ones_(self.classifier.weight)

    def look(self, pixels):
        maps = torch.zeros_like(self.features(pixels))
        maps[:, :, *self._cells] = 1.0
        return self.classifier(maps.mean(dim=(2, 3))), (maps,)


def test_the_stored_overlay_shows_the_melanoma_map_on_the_models_scale(analyze, store):
    data = images.encode(images.lesion(), "JPEG")
    model = tiny_model(heatmap_scales=(0.003, 0.1, 0.2))
    analysis = analyze(model, data)
    photograph = decode_photograph(data, DECODED_SIDE)
    maps = model.read(squash(photograph, model.manifest.preprocessing)[None]).maps[0]
    saliency = scale_to_saliency(maps[CLASSES.index("melanoma")], 0.003)
    assert 0.05 < saliency.max() < 0.95
    assert store.get(analysis.overlay_key) == encode_overlay(draw_overlay(shrink_for_overlay(photograph), saliency))


@pytest.mark.parametrize(
    ("cells", "warnings"), [(np.s_[:1, :1], ("attention_off_lesion",)), (np.s_[1:3, 1:3], ())], ids=["corner", "middle"]
)
def test_a_result_warns_of_a_heatmap_that_lies_outside_the_lesion(analyze, cells, warnings):
    assert analyze(tiny_model(LooksAt(cells)), images.encode(images.lesion(), "JPEG")).warnings == warnings


@pytest.mark.parametrize(("size", "is_low"), [((400, 100), True), ((100, 400), True), ((400, 300), False)])
def test_a_result_warns_of_a_photograph_whose_shorter_side_is_below_the_networks(analyze, size, is_low):
    photograph = images.encode(images.lesion(*size), "JPEG")
    analysis = analyze(tiny_model(preprocessing=preprocess_to(128)), photograph)
    assert ("low_resolution" in analysis.warnings) is is_low
