"""The columns that make up a case, and the case that a row of them describes.

Building an ORM query and turning its rows into objects takes SQLAlchemy several times as long as the database takes to
answer it. So the queries of every request are built once, with bound parameters, from the tables' own columns.
"""

from sqlalchemy import Row, Select, select

from shared.domain import (
    CLASSES,
    Analysis,
    Caller,
    Case,
    Decision,
    OperatingPoint,
    Photograph,
    Priority,
    Problem,
    Role,
    State,
)
from shared.tables import AnalysisRow, CaseRow, ModelRow

_CASES, _ANALYSES, _MODELS = CaseRow.__table__, AnalysisRow.__table__, ModelRow.__table__
_CASE_COLUMNS = [
    _CASES.c[name]
    for name in (
        *("id", "clinic_id", "state", "version", "priority", "reference", "age", "sex", "site"),
        *("photograph_key", "media_type", "width", "height", "size_bytes", "sha256"),
        *("submitted_at", "finished_at", "error_code", "error_detail"),
    )
]
_RESULT_COLUMNS = [
    *(_ANALYSES.c[name] for name in (*CLASSES, "operating_point", "model_digest", "preprocessing", "code_version")),
    *(_ANALYSES.c[name] for name in ("warnings", "overlay_key", "plausible")),
    _ANALYSES.c.decision.label("result_decision"),
    _MODELS.c.manifest["name"].as_string().label("model_name"),
    _MODELS.c.manifest["version"].as_string().label("model_version"),
]
_VISIBLE = (
    select(*_CASE_COLUMNS, *_RESULT_COLUMNS)
    .select_from(_CASES.outerjoin(_ANALYSES).outerjoin(_MODELS))
    .where(_CASES.c.deleted_at.is_(None))
)


def visible_cases(caller: Caller | None) -> Select:
    """Return the query for all cases that this caller may see; `to_case` reads its rows."""
    is_clinic = caller is not None and caller.role is Role.CLINIC
    return _VISIBLE.where(_CASES.c.clinic_id == caller.clinic_id) if is_clinic else _VISIBLE


def to_case(row: Row) -> Case:
    """Return the case that a row of `visible_cases` describes."""
    state = State(row.state)
    return Case(
        id=row.id,
        clinic_id=row.clinic_id,
        state=state,
        version=row.version,
        priority=Priority(row.priority),
        reference=row.reference,
        age=row.age,
        sex=row.sex,
        site=row.site,
        photograph=Photograph(row.photograph_key, row.media_type, row.width, row.height, row.size_bytes, row.sha256),
        submitted_at=row.submitted_at,
        finished_at=row.finished_at,
        problem=Problem(state, row.error_code, row.error_detail or "") if row.error_code else None,
        analysis=_to_analysis(row) if row.model_digest else None,
        model_name=row.model_name,
        model_version=row.model_version,
    )


def _to_analysis(row: Row) -> Analysis:
    return Analysis(
        probabilities=tuple(getattr(row, name) for name in CLASSES),
        decision=Decision(row.result_decision),
        operating_point=OperatingPoint.model_validate(row.operating_point),
        model_digest=row.model_digest,
        preprocessing=row.preprocessing,
        code_version=row.code_version,
        warnings=tuple(row.warnings),
        overlay_key=row.overlay_key,
        plausible=None if row.plausible is None else tuple(row.plausible),
    )
