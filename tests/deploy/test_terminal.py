"""What commands show on the terminal while they work."""

import errno
import io
import os
import re
import sys

from deploy.commands.photographs import case_table, explain_problems
from deploy.terminal import make_console, print_event, progress


def test_a_full_disk_does_not_end_whoever_prints_the_supervisors_events(monkeypatch):
    class FullDisk(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", FullDisk())
    print_event("worker", "started", "process 1")
    assert sys.stdout.getvalue() == "worker     started process 1\n"


def test_each_task_has_its_bar_and_a_new_one_when_it_starts_over(capsys):
    with progress() as on_step:
        on_step("decoding", 3, 3)
        on_step("training", 7, 9, "training, loss 0.500")  # what a resumed run goes on from
        on_step("training", 9, 9, "training, loss 0.250")
        on_step("decoding", 1, 2)
    shown = [re.sub(r" +\S*━\S* +", " ", line) for line in capsys.readouterr().err.splitlines()[-3:]]
    assert [line.rpartition(" ")[0] for line in shown] == ["decoding 3/3", "training, loss 0.250 9/9", "decoding 1/2"]


def test_file_names_and_references_are_shown_as_they_are(capsys):
    names = ["mole [left].jpg", "mole [/b].jpg", ":cat:.jpg"]
    case = {"id": None, "state": "refused", "result": None, "error": {"code": "image_empty", "detail": "It is empty."}}
    console, cases = make_console(), [case] * len(names)
    console.print(case_table(names, cases, heatmaps=[f"out/{name}.png" for name in names]))
    explain_problems(console, names, cases)
    *rows, first, second, third = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [first, second, third] == [f"{name}: It is empty. [image_empty]" for name in names]
    for name in names:
        (row,) = (row for row in rows if row.startswith(name))
        assert row.endswith(f"out/{name}.png")


def test_a_narrow_table_has_whole_ids_and_what_a_result_warns_of(capsys):
    probabilities = {"melanoma": 0.05, "seborrheic_keratosis": 0.05, "nevus": 0.9}
    result = {"probabilities": probabilities, "decision": "routine", "warnings": ["blurred", "not_dermoscopic"]}
    case = {"id": "1b0ef175-4dc3-4697-9a48-7bb4d857177a", "state": "succeeded", "result": result, "error": None}
    console = make_console()
    console.width = 80
    console.print(case_table(["mole.jpg"], [case]))
    explain_problems(console, ["mole.jpg"], [case])
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert {case["id"], "! blurred, not_dermoscopic"} < set(shown)
    assert any(line.startswith("mole.jpg: The photograph is blurred.") for line in shown)


def test_a_task_is_named_as_its_user_named_it(capsys):
    with progress() as on_step:
        on_step("moles [left]", 1, 1)
    assert "moles [left]" in capsys.readouterr().err
