"""Celery's schedulers, made to go on after the machine's clock was set back.

They note when a task last ran by that clock, and would send nothing until it has caught up; one that keeps its notes in
a file would not even after a restart.
"""

from celery.beat import PersistentScheduler, Scheduler


class _ClampedScheduler(Scheduler):
    def tick(self, *args, **kwargs) -> float:
        for entry in self.schedule.values():
            now = entry.default_now()
            if entry.last_run_at > now:
                entry.last_run_at, self._heap = now, None
        return super().tick(*args, **kwargs)


class MemoryScheduler(_ClampedScheduler):
    """Forgets what ran when it ends."""


class FileScheduler(_ClampedScheduler, PersistentScheduler):
    """Keeps what ran when in a file."""
