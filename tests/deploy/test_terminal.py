"""What commands show on the terminal while they work."""

import errno
import io
import os
import re
import sys

from deploy.terminal import print_event, progress


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
