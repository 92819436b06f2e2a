"""Celery, prefork: one photograph a task."""

import os
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_init
from model import Explainer
from settings import BUNDLE, THREADS

app = Celery("celery_app", broker=os.environ["PEER_REDIS"], backend=os.environ["PEER_REDIS"])
# Within the usual 4 s no network is loaded, and the pool would end the process and start another without end.
app.conf.worker_proc_alive_timeout = 120


@worker_process_init.connect
def load(**_) -> None:
    global explain
    explain = Explainer(BUNDLE, THREADS)


@app.task(name="explain")
def explain_photograph(path: str) -> dict[str, str]:
    return explain([Path(path).read_bytes()])[0]
