"""What must stay between us: nobody else may read our files."""

import stat

from deploy.commands.demo import SAMPLES

PHOTOGRAPH = next(SAMPLES.glob("*.jpg")).read_bytes()


def test_whatever_a_running_stack_keeps_in_its_folder_is_its_owners_alone(stack):
    stack.finish([stack.submit(PHOTOGRAPH).json()["id"]])
    kept = {path.name: stat.S_IMODE(path.stat().st_mode) for path in stack.data_dir.iterdir() if path != stack.output}
    assert {"stack.env", "keys.json", "connection.json", "seaweed.key", "seaweed", "logs"} <= kept.keys()
    if "DERMQUEUE_DATABASE_URL" not in stack.environment:
        assert {"dermqueue.sqlite3", "dermqueue.sqlite3-wal", "dermqueue.sqlite3-shm", "valkey"} <= kept.keys()
    assert {name: oct(mode) for name, mode in kept.items() if mode & 0o077} == {}
