"""The file of predictions keeps what it was given; an unusable one is refused with the line."""

import numpy as np
import pytest

from shared.errors import InputUnusable
from worker.training.predictions import Predictions, mean_probabilities, read_predictions, write_predictions

HEADER = "image_id,label,fold,logit_melanoma,logit_seborrheic_keratosis,logit_nevus"


def test_predictions_are_read_back_to_the_last_bit(tmp_path):
    logits = np.random.default_rng(1).normal(size=(3, 3)) * 1e-3
    written = Predictions(("A", "B", "A"), np.array([0, 2, 0]), logits, np.array([0, 1, 1]))
    write_predictions(written, tmp_path / "p.csv")
    read = read_predictions(tmp_path / "p.csv")
    assert read.ids == ("A", "B", "A")
    for name in ("labels", "logits", "folds"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name), strict=True)


def test_groups_are_read_back_without_their_names_and_an_image_without_one_is_by_itself(tmp_path):
    path, groups = tmp_path / "p.csv", ("Ms Q", "p2", "Ms Q")
    write_predictions(Predictions(("A", "B", "C"), np.zeros(3, int), np.zeros((3, 3)), np.zeros(3, int), groups), path)
    assert read_predictions(path).groups == ("1", "2", "1")
    path.write_text(path.read_text().replace("C,melanoma,0,0.0,0.0,0.0,1", "C,melanoma,0,0,0,0,"))
    assert read_predictions(path).groups == ("1", "2", "C")
    path.write_text(f"{HEADER}\nA,nevus,0,1,2,3\n")
    assert read_predictions(path).groups is None


def test_labels_are_written_as_names(tmp_path):
    write_predictions(
        Predictions(("A",), np.array([1]), np.array([[0.5, 1.0, -2.0]]), np.array([4])), tmp_path / "p.csv"
    )
    assert (tmp_path / "p.csv").read_text().splitlines() == [HEADER, "A,seborrheic_keratosis,4,0.5,1.0,-2.0"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"{HEADER}\nA,nevus,0,1,2,3\nB,wart,0,1,2,3\n", "line 3.*wart"),
        (f"{HEADER}\nA,nevus,0,1,2,nan\n", "line 2.*nan"),
        (f"{HEADER}\nA,nevus,0,1\n", "line 2"),
        ("image_id,label\nA,nevus\n", "line 2.*fold"),
        (f"{HEADER}\n", "no row"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_place(tmp_path, text, named):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputUnusable, match=named):
        read_predictions(tmp_path / "p.csv")


def test_a_byte_order_mark_is_skipped_and_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(f"{HEADER}\nA,nevus,0,1,2,3\n", encoding="utf-8-sig")
    assert read_predictions(path).ids == ("A",)
    path.write_bytes(b"\xff\xfe\x00PK")
    with pytest.raises(InputUnusable, match="not a CSV file"):
        read_predictions(path)


def test_probabilities_are_averaged_over_an_images_rows_in_all_files():
    logits = np.log([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6]])
    one = Predictions(("A", "B"), np.array([0, 2]), logits, np.array([0, 1]))
    other = Predictions(("A",), np.array([0]), np.log([[0.4, 0.3, 0.3]]) + 7, np.array([0]))
    expected = [[0.2, 0.2, 0.6], [0.6, 0.2, 0.2]]
    np.testing.assert_allclose(mean_probabilities((one, other), ("B", "A")), expected)


def test_an_image_without_a_prediction_is_named():
    one = Predictions(("A",), np.array([0]), np.zeros((1, 3)), np.array([0]))
    with pytest.raises(InputUnusable, match="2 images have no prediction, such as C"):
        mean_probabilities((one,), ("A", "C", "D"))
