"""Figures by age and sex: what the CSV files say, and no figures where there are too few."""

from pathlib import Path

import numpy as np
import pytest

from shared.errors import InputUnusable
from tests.worker.training.readings import made_up_readings
from worker.training.figures import measure
from worker.training.groups import age_band, measure_groups, read_people


def write(folder: Path, text: str) -> Path:
    (folder / "people.csv").write_text(text)
    return folder / "people.csv"


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("0", "under 30"),
        ("29.9", "under 30"),
        ("30", "30 to 44"),
        ("44", "30 to 44"),
        ("45", "45 to 59"),
        ("74", "60 to 74"),
        ("75", "75 and over"),
        ("85.0", "75 and over"),
        ("unknown", None),
        ("", None),
        (None, None),
        ("nan", None),
        ("-5", None),
    ],
)
def test_an_age_has_one_band_or_is_not_stated(age, band):
    assert age_band(age) == band


@pytest.mark.parametrize(
    "header", ["image_id,age_approximate,sex", "image,age,sex", "lesion,image_id,sex,age", "isic_id,sex,age_approx"]
)
def test_the_layouts_of_the_archive_and_others_are_read(tmp_path, header):
    cells = {"lesion": "L1", "sex": "Female"}
    row = [
        cells.get(column, "35" if "age" in column and "image" not in column else "A.jpg")
        for column in header.split(",")
    ]
    assert read_people([write(tmp_path, f"{header}\n{','.join(row)}\n")]) == {"A": {"age": "30 to 44", "sex": "female"}}


def test_what_is_unknown_is_not_stated(tmp_path):
    people = read_people([write(tmp_path, "image_id,age_approximate,sex\nA,unknown,unknown\nB,,male\n")])
    assert people == {"A": {}, "B": {"sex": "male"}}


def test_a_skin_type_is_read_as_pad_ufes_20_writes_it(tmp_path):
    people = read_people([write(tmp_path, "image,fitzpatrick,age,sex\nA.jpg,3.0,,MALE\nB.jpg,,,\n")])
    assert people == {"A": {"skin type": "3", "sex": "male"}, "B": {}}


def test_a_patient_is_found_by_the_images_own_name_whatever_folder_stands_before_it(tmp_path):
    people = read_people([write(tmp_path, "image,sex\ntrain/A.jpg,male\nval/B,female\n")])
    assert people == {"A": {"sex": "male"}, "B": {"sex": "female"}}


def test_an_unnamed_column_says_nothing_of_anybody(tmp_path):
    people = read_people([write(tmp_path, ",image_id,sex\n40,A,male\n80,B,\n")])
    assert people == {"A": {"sex": "male"}, "B": {}}


def test_several_files_add_to_each_other(tmp_path):
    first = write(tmp_path, "image_id,age\nA,50\n")
    (tmp_path / "second").mkdir()
    second = write(tmp_path / "second", "image_id,fitzpatrick\nA,2\n")
    assert read_people([first, second]) == {"A": {"age": "45 to 59", "skin type": "2"}}


@pytest.mark.parametrize("text", ["", "image_id,melanoma\nA,1\n", "name,age\nA,30\n"])
def test_a_file_without_metadata_of_patients_is_refused_by_its_name(tmp_path, text):
    with pytest.raises(InputUnusable, match=r"people\.csv needs"):
        read_people([write(tmp_path, text)])


def test_a_file_in_another_encoding_is_refused_by_its_name(tmp_path):
    path = write(tmp_path, "image_id,sex\n")
    path.write_bytes("image_id,sex\nA,männlich\n".encode("latin-1"))
    with pytest.raises(InputUnusable, match=r"people\.csv is not a CSV file in UTF-8") as refusal:
        read_people([path])
    assert refusal.value.code == "metadata_malformed"


def test_every_image_is_in_one_group_by_age_and_one_by_sex():
    readings = made_up_readings()
    people = {f"image-{i}": {"age": "45 to 59", "sex": ("female", "male", "other")[i % 3]} for i in range(250)}
    groups = measure_groups(readings, people)
    assert [(group.by, group.name) for group in groups] == [
        ("age", "45 to 59"),
        ("age", "not stated"),
        ("sex", "female"),
        ("sex", "male"),
        ("sex", "other"),
        ("sex", "not stated"),
    ]
    assert [sum(group.n for group in groups if group.by == by) for by in ("age", "sex")] == [300, 300]
    men = readings.take(np.arange(1, 250, 3))
    assert groups[3].figures == measure(men)


def test_too_few_melanomas_or_too_few_others_have_no_figures():
    readings = made_up_readings()  # the first 60 are melanomas
    people = {f"image-{i}": {"sex": "female" if i < 9 or i >= 60 else "male"} for i in range(300)}
    female, male = (group for group in measure_groups(readings, people) if group.by == "sex")
    assert (female.n, female.n_melanoma, female.figures) == (249, 9, {})
    assert (male.n, male.n_melanoma, male.figures) == (51, 51, {})
