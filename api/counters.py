"""What each API process counts for Prometheus; `api.metrics` exports the sums."""

from prometheus_client import Counter, Histogram

REQUEST_SECONDS = Histogram(
    "dermqueue_http_request_seconds",
    "Time from a request's arrival to its answer; with `Prefer: wait`, the wait too.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
REQUESTS = Counter("dermqueue_http_requests", "Requests that were answered.", ["method", "route", "status"])
ACCEPTED = Counter("dermqueue_cases_accepted", "Cases that were accepted.", ["clinic"])
REFUSED = Counter(
    "dermqueue_refusals", "Requests, and photographs in submissions, that were answered with a problem.", ["code"]
)
