"""What a person watches: a live table on a terminal, one line an iteration elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

SHOWN_ROWS = 14
BAR = 16  # characters


class Display:
    """Rank 0's window on the run. Use as a context manager."""

    def __init__(self, root: Path, *, plain: bool, tensorboard: bool):
        self.console = Console()
        self._root = root
        self._plain = plain or not self.console.is_terminal
        self._lines: list[dict] = []
        self._measured: dict = {}
        self._live: Live | None = None
        self._writer = _tensorboard_writer(root) if tensorboard else None
        self._began = time.monotonic()

    def __enter__(self) -> Display:
        if not self._plain:
            self._live = Live(console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        if self._writer is not None:
            self._writer.close()

    def opened(self, what: str) -> None:
        """One line before the loop starts."""
        self.console.print(what, highlight=False)

    def iteration(self, metrics: dict) -> None:
        """Show one line of metrics."""
        self._measured = metrics.get("dev") or self._measured
        self._lines = [*self._lines, metrics][-SHOWN_ROWS:]
        if self._writer is not None:
            for name, value in _scalars(metrics):
                self._writer.add_scalar(name, value, metrics["iteration"])
        if self._live is not None:
            self._live.update(self._screen())
        else:
            self.console.print(_line(metrics), highlight=False, soft_wrap=True)

    def closed(self, *what: object) -> None:
        """Whatever is to be read after the loop: tables, chains, paths."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        for item in what:
            self.console.print(item, highlight=False)

    def _screen(self) -> Group:
        last = self._lines[-1]
        head = Text.assemble(
            (f"{self._root}  ", "bold"),
            f"{last['teacher']}  iteration {last['iteration']}  ",
            f"{clock(last['seconds'])} spent, about {clock(_seconds_left(last))} left  ",
            f"{speed(last):,.0f} tokens/s",
        )
        table = Table(box=None, padding=(0, 1), header_style="bold cyan")
        for name in ("it", "teacher", "generated", "trained", "greedy", "", "sampled", "illegal", "AUC", "ECE", "gate"):
            table.add_column(name, justify="left" if name in ("teacher", "", "gate") else "right")
        for line in self._lines:
            table.add_row(*_cells(line))
        bar = ProgressBar(total=1.0, completed=last["progress"], width=60)
        return Group(head, bar, table)


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def count(n: float) -> str:
    """1234567 -> '1.23M'."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.0f}"


def speed(metrics: dict) -> float:
    """Trained and generated tokens a second of wall time."""
    return (metrics["trained_tokens"] + metrics["generated_tokens"]) / max(metrics["seconds"], 1e-9)


def _seconds_left(metrics: dict) -> float:
    progress = max(metrics["progress"], 1e-3)
    return metrics["seconds"] * (1 - progress) / progress


def _cells(m: dict) -> list[str]:
    dev = m.get("dev")
    cells = [str(m["iteration"]), m["teacher"], count(m["generated_tokens"]), count(m["trained_tokens"])]
    if dev is None:
        return [*cells, "", "", "", "", "", "", ""]
    low, high = dev["greedy_ci95"]
    greedy = dev.get("greedy_no_reentry", dev["greedy"])
    filled = round(greedy * BAR)
    return [
        *cells,
        f"{100 * greedy:.1f} ±{50 * (high - low):.1f}",
        "█" * filled + "░" * (BAR - filled),
        f"{100 * dev['sampled']:.1f}",
        f"{100 * dev['illegal_rate']:.1f}",
        f"{dev['value_auc']:.2f}",
        f"{dev['value_ece']:.2f}",
        "passed" if m["gate"]["promoted"] else "held back",
    ]


def _line(m: dict) -> str:
    parts = [
        f"[{100 * m['progress']:3.0f}%] iteration {m['iteration']} {m['teacher']}",
        f"{clock(m['seconds'])} spent",
        f"generated {count(m['generated_tokens'])}, trained {count(m['trained_tokens'])} tokens",
    ]
    if m.get("losses"):
        loss = m["losses"].get("policy_loss")
        parts.append("no row to learn from" if loss is None else f"loss {loss:.3f}")
    if m.get("actor"):
        parts.append(f"solved {100 * m['actor']['solved']:.0f}% of {m['actor']['problems']}")
    if (dev := m.get("dev")) is not None:
        cells = _cells(m)
        parts.append(
            f"dev greedy {cells[4]}%, sampled {cells[6]}%, illegal {cells[7]}%, "
            f"value AUC {dev['value_auc']:.2f} ECE {dev['value_ece']:.2f}, gate {cells[10]}"
        )
    return " | ".join(parts)


def _scalars(metrics: dict, prefix: str = ""):
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield prefix + name, value


def _tensorboard_writer(root: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        from selfplay.config import ConfigError

        raise ConfigError("tensorboard=true needs the extra: pip install -e '.[tensorboard]'") from error
    return SummaryWriter(str(root / "tensorboard"))
