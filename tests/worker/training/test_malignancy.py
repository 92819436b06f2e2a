"""Malignant or not, of every diagnosis that the CSV files name."""

import numpy as np
import pytest

from tests.worker.networks import tiny_model
from tests.worker.training.data import write_data
from worker.training.evaluation import evaluate, read_with_bundle
from worker.training.malignancy import Diagnosed, measure_malignancy
from worker.training.report import tables

NAMES = ("actinic_keratosis", "basal_cell_carcinoma", "melanoma", "nevus", "squamous_cell_carcinoma")


def diagnosed(scores: dict[str, float], each: int = 12) -> Diagnosed:
    """Return this many images of each diagnosis, all with its score."""
    labels = np.repeat([NAMES.index(name) for name in scores], each)
    ids = np.array([f"image-{i}" for i in range(len(labels))])
    return Diagnosed(ids, labels, NAMES, np.repeat([*scores.values()], each))


def test_carcinomas_and_melanomas_are_malignant_and_actinic_keratoses_are_not():
    said = {name: 0.9 if name in NAMES[1:3] or name == NAMES[4] else 0.1 for name in NAMES}
    (everybody,) = measure_malignancy(diagnosed(said), {})
    assert (everybody.group, everybody.n, everybody.n_malignant) == ("all", 60, 36)
    assert everybody.auc.value == 1


def test_carcinomas_with_a_low_melanoma_probability_lower_the_auc():
    (everybody,) = measure_malignancy(diagnosed({"melanoma": 0.9, "basal_cell_carcinoma": 0.1, "nevus": 0.5}), {})
    assert everybody.auc.value == pytest.approx(0.5)
    assert everybody.auc.n == 36


def test_each_skin_type_has_its_own_figure_where_there_are_enough():
    of = diagnosed({"melanoma": 0.9, "nevus": 0.5})
    people = {image: {"skin type": "2" if number % 12 else "5"} for number, image in enumerate(of.ids)}
    everybody, second, fifth = measure_malignancy(of, people)
    assert (second.group, second.n, second.n_malignant, second.auc.value) == ("skin type: 2", 22, 11, 1)
    assert (fifth.group, fifth.n, fifth.auc) == ("skin type: 5", 2, None)
    assert everybody.n == 24


def test_an_evaluation_of_other_diagnoses_has_its_own_table_beside_the_figures(tmp_path):
    rows = tuple(f"{code}{i}.jpg,P{i},{code}" for code in ("MEL", "NEV", "BCC", "ACK") for i in range(5))
    source = write_data(tmp_path, rows, header="image,patient,label")
    report = evaluate(read_with_bundle(tiny_model(), [source], on_progress=lambda *step: None), {}, None)
    assert report.n == 10
    assert report.left_out == {"actinic_keratosis": 5, "basal_cell_carcinoma": 5}
    assert (report.malignancy[0].n, report.malignancy[0].n_malignant) == (20, 10)
    (title,) = (title for title in tables(report) if title.startswith("Malignant"))
    assert "squamous cell carcinoma" in title


def test_without_other_diagnoses_malignancy_is_not_measured(tmp_path):
    source = write_data(tmp_path, ("A,1,0", "B,0,0"))
    subject = read_with_bundle(tiny_model(), [source], on_progress=lambda *step: None)
    assert evaluate(subject, {}, None).malignancy == []
