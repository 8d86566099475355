"""A job as a person follows it."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from nvp_agentkit.cli.screen import progress_bar
from nvp_agentkit.client.job import Job
from nvp_agentkit.messages import JobCompleted, JobProgressed


async def watch(job: Job, console: Console, text: Callable[[JobProgressed], str]) -> JobCompleted:
    """Follow a job: a bar on a terminal, elsewhere a line a phase and a judgement."""
    said: set[tuple[str, str | None, float | None]] = set()
    with progress_bar(console) as bars:
        bar = bars.add_task("waiting", total=1.0, told="")
        async for line in job:
            done = line.step / line.steps if line.steps else line.used_mj / max(line.granted_mj, 1)
            bars.update(bar, completed=min(done, 1.0), description=f"{line.phase:<11}", told=text(line))
            news = (line.phase, line.note, line.skill if line.phase == "validating" else None)
            if not console.is_terminal and line.phase != "training" and news not in said:
                console.print(f"   {' '.join(filter(None, (line.note, line.phase)))}: {text(line)}")
            said.add(news)
        bars.update(bar, completed=1.0)
    return await job.result()


def joules_so_far(line: JobProgressed) -> str:
    """What a job has used."""
    return f"{line.used_mj / 1000:.1f} J"
