"""``python -m tests.training.killed PATH``: twenty steps, a checkpoint every ten, killed -9 in the middle of the last.

That is when all its bytes are written and none is safe yet.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from nvp_agentkit.training import MemberTrainer, Saving, StepPacer

from .conftest import SMALL, drifting


def main(path: Path) -> None:
    def synced(_: int) -> None:
        if path.exists():
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = synced
    MemberTrainer(SMALL).fit(drifting(6, seed=0), drifting(3, seed=1), StepPacer(20), saving=Saving(path, every=10))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
