"""The rule by which workers come and go: the manifest's query on a real database, and what follows from its answer."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from shared.database import Database, read_clock
from shared.domain import workers_needed
from shared.store import cases, webhooks
from tests.factories import add_clinic
from tests.rehearsal.autoscaler import Autoscaler, Rule
from tests.shared.steps import at, claim, reject, submit

RULE = replace(Rule.read(), cases_per_worker=100, most_workers=8, cooldown_s=60, stabilization_s=30)


def ask(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(text(Rule.read().query))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_query_counts_whatever_only_a_worker_can_do(database):
    clinic_id = add_clinic(database)
    with database.writing() as session:
        webhooks.add_webhook(session, clinic_id, "https://clinic.example/cases", at(0))
    assert ask(database) == 0
    case = submit(database, clinic_id)
    submit(database, clinic_id)
    assert ask(database) == 2
    (lease,) = claim(database, limit=1)
    assert ask(database) == 2
    reject(database, lease)
    assert ask(database) == 1
    with database.writing() as session:
        webhooks.announce(session, [case.id], at(1))
    assert ask(database) == 2
    with database.writing() as session:
        cases.delete_case(session, None, case.id, read_clock(session))
    assert ask(database) == 3


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_erasures_ask_for_one_worker_however_many_they_are(database):
    clinic_id = add_clinic(database)
    for _ in range(3):
        case = submit(database, clinic_id)
        with database.writing() as session:
            cases.delete_case(session, None, case.id, read_clock(session))
    assert ask(database) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_each_count_of_the_query_walks_an_index_of_its_own(database):
    with database.writing() as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(session.scalars(text(f"EXPLAIN {Rule.read().query}")))
    found = ("ix_cases_waiting", "ix_cases_leases", "ix_cases_to_erase", "ix_webhook_deliveries_due")
    assert [index for index in found if index not in plan] == []


def test_the_target_is_what_a_worker_of_that_rate_does_in_that_time():
    rule = Rule.read()
    assert rule.cases_per_worker == rule.images_per_minute * rule.clear_in_minutes


def test_the_rule_asks_for_what_the_admins_are_told_is_needed():
    rule = Rule.read()
    for backlog in (1, 999, 1000, 1001, 7500):
        wanted = Autoscaler(rule).decide(backlog, workers=100, now_s=0)
        needed = workers_needed(backlog, 0, rule.clear_in_minutes, rule.images_per_minute)
        assert wanted == min(needed, rule.most_workers)


@pytest.mark.parametrize(
    ("backlog", "workers", "wanted"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (5000, 0, 1),  # KEDA wakes the first one; from there on the autoscaler decides
        (50, 1, 1),
        (201, 1, 3),
        (5000, 1, 8),
        (430, 4, 4),  # off by less than the tolerance
        (450, 4, 5),
        (0, 1, 1),
    ],
)
def test_a_backlog_asks_for_workers(backlog, workers, wanted):
    scaler = Autoscaler(RULE)
    scaler._busy_at = 0
    assert scaler.decide(backlog, workers, now_s=0) == wanted


def test_workers_go_once_fewer_were_enough_for_a_while_and_the_last_one_after_a_longer_time_without_work():
    scaler = Autoscaler(RULE)
    assert scaler.decide(600, 2, now_s=0) == 6
    assert scaler.decide(200, 6, now_s=10) == 6
    assert scaler.decide(250, 6, now_s=31) == 3
    assert scaler.decide(0, 3, now_s=35) == 3
    assert scaler.decide(0, 3, now_s=70) == 1
    assert scaler.decide(0, 1, now_s=90) == 1
    assert scaler.decide(0, 1, now_s=91) == 0
