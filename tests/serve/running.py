"""A server in a process of its own, as people start it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
MODEL, KEY = "countdown4think", "a-key-of-ours"
SECONDS = 120.0  # that a server is given to start, and to end
BEARER = {"Authorization": f"Bearer {KEY}"}


class Server:
    """`python -m serve` with a key, on a port of its own."""

    def __init__(self, *settings: str):
        command = [sys.executable, "-m", "serve", f"policy={MODEL}", "port=0", f"api_key={KEY}", *settings]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        told = self.process.stdout.readline()
        assert "http" in told, self.process.stderr.read()
        self.url = told.split()[3].rstrip(",")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=SECONDS)

    def post(self, body: dict, **more) -> httpx.Response:
        return httpx.post(f"{self.url}/chat/completions", json=body, headers=BEARER, timeout=SECONDS, **more)
