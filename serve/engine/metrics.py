"""What is counted, for Prometheus. Labels are words of ours; nothing that people or models write is one."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serve.engine.ticket import Answered, Written

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry}
        self.requests = Counter("ro1_requests", "Requests by route and status.", ["route", "status"], **own)
        self.queued = Gauge("ro1_queued", "Requests that wait.", **own)
        self.open = Gauge("ro1_open", "Requests that are searched now.", **own)
        self.gone = Counter("ro1_gone", "Requests whose client left before the answer.", **own)
        self.generated = Counter("ro1_generated_tokens", "Tokens generated, by searches that go on too.", **own)
        self.tokens = Counter("ro1_answered_tokens", "Tokens of answered requests.", ["kind"], **own)
        self.verdicts = Counter("ro1_stopped", "Why searches have stopped.", ["reason"], **own)
        self.seconds = Histogram("ro1_seconds", "From a request to its answer.", buckets=SECONDS, **own)

    def count(self, route: str, status: int) -> None:
        """Count one response."""
        self.requests.labels(route, status).inc()

    def answered(self, found: Answered | Written, seconds: float) -> None:
        """Count one answer."""
        self.seconds.observe(seconds)
        if isinstance(found, Written):
            self.tokens.labels("prompt").inc(len(found.prompt))
            self.tokens.labels("visible").inc(len(found.tokens))
            return
        self.tokens.labels("prompt").inc(found.prompt_tokens)
        self.tokens.labels("hidden").inc(found.hidden_tokens)
        self.tokens.labels("visible").inc(found.visible_tokens)
        self.verdicts.labels(found.solution.stopped).inc()
