"""The layouts that are read, and the messages about data that cannot be used."""

import re

import numpy as np
import pytest
import torch

from shared.domain import CLASSES
from shared.errors import InputUnusable
from shared.photograph import decode_photograph
from tests import images
from tests.worker.networks import preprocess_to
from tests.worker.training.data import ISIC_2017, write_data
from worker.frame import DECODED_SIDE, squash, squash_frame
from worker.training.dataset import prepare, read_images, read_unlabelled

ROWS = ("A,1.0,0.0", "B,0.0,1.0", "C,0,0")
ISIC_2019 = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
HAM10000 = "lesion_id,image_id,dx,dx_type,age,sex,localization"
PAD_UFES_20 = "image,patient,lesion,label,biopsed"


def named(dataset) -> list[tuple[str, str]]:
    return [(image_id, dataset.classes[label]) for image_id, label in zip(dataset.ids, dataset.labels, strict=True)]


def complaint(*sources) -> str:
    with pytest.raises(InputUnusable) as refusal:
        read_images(sources, preprocess_to(32))
    assert refusal.value.code == "data_unusable"
    return refusal.value.detail


def test_isic_2017_is_read_in_the_order_of_the_csv_with_neither_meaning_nevus(tmp_path):
    dataset = read_images([write_data(tmp_path, ROWS)], preprocess_to(32))
    assert named(dataset) == [("A", "melanoma"), ("B", "seborrheic_keratosis"), ("C", "nevus")]
    assert dataset.classes == CLASSES
    assert dataset.pixels.shape == (3, 32, 32, 3)
    assert dataset.pixels.numpy().dtype == np.uint8


@pytest.mark.parametrize(
    ("header", "rows", "id_column", "groups"),
    [
        (
            ISIC_2019,
            ("A,1,0,0,0,0,0,0,0,0", "B,0,0,0,0,1.0,0,0,0,0", "C,0,1,0,0,0,0,0,0,0", "D,0,0,0,0,0,1,0,0,0"),
            0,
            "ABC",
        ),
        (HAM10000, ("l1,A,mel,,,,", "l2,B,bkl,,,,", "l2,C,nv,,,,", "l3,D,df,,,,"), 1, ("l1", "l2", "l2")),
        (
            PAD_UFES_20,
            ("A.jpg,p1,1,MEL,", "B.jpg,p1,2,SEK,", "C.jpg,p2,3,NEV,", "D.jpg,p3,4,BCC,"),
            0,
            ("p1", "p1", "p2"),
        ),
        (
            "image,patient,label",
            ("A.jpg,p1,Melanoma", "B.jpg,p1,seborrheic keratosis", "C.jpg,,nevus", "D.jpg,p3,basal_cell_carcinoma"),
            0,
            ("p1", "p1", "C"),
        ),
        (
            "patient_id,lesion_id,img_id,diagnostic",
            ("p1,1,A.jpg,MEL", "p1,2,B.jpg,SEK", "p2,3,C.jpg,NEV", "p3,4,D.jpg,BCC"),
            2,
            ("p1", "p1", "p2"),
        ),
        (
            f"{ISIC_2019},lesion_id",
            ("A,1,0,0,0,0,0,0,0,0,l1", "B,0,0,0,0,1,0,0,0,0,l2", "C,0,1,0,0,0,0,0,0,0,l2", "D,0,0,0,0,0,1,0,0,0,l3"),
            0,
            ("l1", "l2", "l2"),
        ),
    ],
)
def test_other_layouts_are_recognised_by_their_columns_and_other_diagnoses_are_left_out(
    tmp_path, header, rows, id_column, groups
):
    dataset = read_images([write_data(tmp_path, rows, header, id_column)], preprocess_to(32))
    assert named(dataset) == [("A", "melanoma"), ("B", "seborrheic_keratosis"), ("C", "nevus")]
    assert dataset.groups == tuple(groups)
    assert sum(dataset.left_out.values()) == 1


def test_all_diagnoses_but_unknown_ones_are_kept_if_no_classes_are_named(tmp_path):
    rows = ("A,0,0,0,0,0,0,0,1,0", "B,0,0,1,0,0,0,0,0,0", "C,0,0,0,0,0,0,0,0,1")
    dataset = read_images([write_data(tmp_path, rows, ISIC_2019)], preprocess_to(32), classes=None)
    assert named(dataset) == [("A", "squamous_cell_carcinoma"), ("B", "basal_cell_carcinoma")]
    assert dataset.left_out == {"unknown": 1}


def test_a_folder_that_the_csv_names_before_an_image_is_not_part_of_its_id(tmp_path):
    photographs, labels = write_data(tmp_path, ROWS)
    labels.write_text(f"{ISIC_2017}\ntrain/A.jpg,1,0\nval/B,0,1\nC,0,0\n")
    assert read_images([(photographs, labels)], preprocess_to(32)).ids == ("A", "B", "C")


def test_several_folders_are_joined(tmp_path):
    one = write_data(tmp_path / "one", ROWS[:2])
    other = write_data(tmp_path / "other", ("l1,D,nv,,,,",), HAM10000, id_column=1)
    seen = []
    dataset = read_images([one, other], preprocess_to(32), on_image=lambda done, total: seen.append((done, total)))
    assert named(dataset) == [("A", "melanoma"), ("B", "seborrheic_keratosis"), ("D", "nevus")]
    assert dataset.groups == ("A", "B", "l1")
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_digest_changes_with_a_label_and_with_an_image(tmp_path):
    def digest(folder: str, last_row: str) -> str:
        photographs, labels = write_data(tmp_path / folder, (*ROWS, last_row))
        if folder == "other_image":
            (photographs / "D.jpg").write_bytes((photographs / "A.jpg").read_bytes())
        return read_images([(photographs, labels)], preprocess_to(32)).digest

    assert digest("one", "D,0,0") == digest("same", "D,0,0")
    assert len({digest("a", "D,0,0"), digest("other_label", "D,1,0"), digest("other_image", "D,0,0")}) == 3


@pytest.mark.parametrize(
    ("rows", "header", "expected"),
    [
        ((*ROWS, "D,0.5,0"), ISIC_2017, r"labels\.csv line 5: .*melanoma 0\.5.* for D"),
        ((*ROWS, "D,1,1"), ISIC_2017, r"line 5: .*melanoma 1 and seborrheic_keratosis 1 for D"),
        ((*ROWS, "D,yes,0"), ISIC_2017, r"line 5: .*yes"),
        ((*ROWS, "D,1"), ISIC_2017, "line 5"),
        ((*ROWS, "A,0,0"), ISIC_2017, r"line 5: A is already in labels\.csv line 2"),
        (("A,1,0,0,0,1,0,0,0,0",), ISIC_2019, "line 2: .*2 diagnoses are 1 for A"),
        (("l1,A,wart,,,,",), HAM10000, "line 2: .*'wart' is not one of mel, nv"),
        (ROWS, "image_id,melanoma,sk", r"labels\.csv: the columns are image_id, melanoma, sk; .*seborrheic_keratosis"),
        (ROWS[:1], ISIC_2017, r"labels\.csv: there is no image of the class seborrheic_keratosis"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_with_the_place(tmp_path, rows, header, expected):
    assert re.search(expected, complaint(write_data(tmp_path, rows, header, id_column=1 if header == HAM10000 else 0)))


def test_a_row_too_short_to_name_its_image_is_refused_with_the_place(tmp_path):
    rows = tuple(f"{flags},{name}" for flags, name in (("1,0", "A"), ("0,1", "B"), ("0,0", "C")))
    photographs, labels = write_data(tmp_path, rows, "melanoma,seborrheic_keratosis,image_id", id_column=2)
    labels.write_text(labels.read_text() + "1,0\n")
    assert "labels.csv line 5" in complaint((photographs, labels))


def test_everything_that_is_wrong_is_reported_at_once_with_file_and_line(tmp_path):
    photographs, labels = write_data(tmp_path / "one", (*ROWS, "D,2,0"))
    (photographs / "A.jpg").write_bytes(images.encode(images.lesion(96, 72), "JPEG")[:600])
    (photographs / "B.jpg").unlink()
    other, other_labels = write_data(tmp_path / "other", ("C,0,0", "E,0,0"))
    (other / "E.jpg").write_bytes(b"text")
    detail = complaint((photographs, labels), (other, other_labels))
    for expected in ("line 5: ", "line 3: no image B ", f"{photographs / 'A.jpg'} cannot", "line 2: C is already in"):
        assert expected in detail
    assert f"{other / 'E.jpg'} cannot be used: This file seems to be text" in detail
    assert "no image of the class seborrheic_keratosis" in detail


def test_twenty_problems_are_named_and_the_rest_counted(tmp_path):
    photographs, labels = write_data(tmp_path, ROWS)
    labels.write_text("\n".join((ISIC_2017, *ROWS, *(f"X{number},0,0" for number in range(25)))))
    detail = complaint((photographs, labels))
    assert detail.count("no image X") == 20
    assert "and 5 more" in detail


def test_a_csv_that_is_not_text_is_refused(tmp_path):
    photographs, labels = write_data(tmp_path, ROWS)
    labels.write_bytes(b"\xff\xfe\x00PK")
    assert "labels.csv: " in complaint((photographs, labels))


def test_unlabelled_images_are_read_like_labelled_ones(tmp_path):
    photographs, labels = write_data(tmp_path, ROWS)
    (photographs / "notes.txt").write_text("no image")
    others, labelled = read_unlabelled(photographs), read_images([(photographs, labels)])
    assert others.ids == labelled.ids
    assert torch.equal(others.pixels, labelled.pixels)
    assert others.subset(np.array([2, 0])).ids == ("C", "A")
    (photographs / "B.jpg").write_bytes((photographs / "A.jpg").read_bytes())
    assert read_unlabelled(photographs).digest != others.digest


def test_the_archives_superpixels_and_outlines_are_not_photographs(tmp_path):
    photographs, _ = write_data(tmp_path, ROWS)
    for name in ("A_superpixels.png", "A_segmentation.png"):
        (photographs / name).write_bytes(images.encode(images.lesion(), "PNG"))
    assert read_unlabelled(photographs).ids == ("A", "B", "C")


@pytest.mark.parametrize(("content", "said"), [(b"text", "A.jpg cannot be used"), (None, "There is no image")])
def test_a_folder_without_usable_images_is_refused(tmp_path, content, said):
    if content:
        (tmp_path / "A.jpg").write_bytes(content)
    with pytest.raises(InputUnusable, match=said):
        read_unlabelled(tmp_path)


def test_a_csv_without_images_is_refused_whatever_the_classes(tmp_path):
    photographs, labels = write_data(tmp_path, ROWS)
    labels.write_text(f"{ISIC_2017}\n")
    for classes in (CLASSES, None):
        with pytest.raises(InputUnusable, match=r"labels\.csv: no image is named"):
            read_images([(photographs, labels)], classes=classes)


def test_two_files_of_the_same_name_are_refused(tmp_path):
    photographs, labels = write_data(tmp_path, ROWS)
    (photographs / "A.png").write_bytes(images.encode(images.lesion(), "PNG"))
    assert "A.jpg and A.png have the same name" in complaint((photographs, labels))


def test_a_large_photograph_is_decoded_as_a_worker_does_whatever_the_networks_side(tmp_path):
    photographs, labels = write_data(tmp_path, ROWS)
    large = images.encode(images.lesion(1500, 1000), "JPEG")
    (photographs / "A.jpg").write_bytes(large)
    read = read_images([(photographs, labels)], preprocess_to(64)).pixels[0].numpy()
    np.testing.assert_array_equal(read, squash(decode_photograph(large, DECODED_SIDE), preprocess_to(64)))


def test_pixels_prepared_later_are_those_that_a_worker_would_see():
    photograph = images.encode(images.lesion(300, 400), "JPEG")
    preprocessing = preprocess_to(96, cleaned=True)
    kept = squash_frame(decode_photograph(photograph, min_side=512))
    later = squash(decode_photograph(photograph, min_side=512), preprocessing)
    assert torch.equal(prepare(torch.from_numpy(kept)[None], preprocessing), torch.from_numpy(later)[None])
