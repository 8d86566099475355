"""Programs that compute in this process, without stack or account: what they print, and the status they end with."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import jax

from nvp_agentkit.cli.options import FAILED, INTERRUPTED, say_json
from nvp_agentkit.errors import NvpError
from nvp_agentkit.settings import Settings, compile_cache


def answer(work: Callable[[], dict[str, Any]], *, as_json: bool) -> int:
    """Exit status: 0 done, 1 refused or failed, 130 interrupted. With ``as_json`` what ``work`` finds is printed."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # whoever follows a log sees each line when it is said
    try:
        _share_programs(Settings.from_env())
        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            document = work()
    except (NvpError, OSError) as error:
        code = error.code if isinstance(error, NvpError) else "system"
        if as_json:
            say_json({"error": code, "detail": str(error)})
        else:
            print(f"{code}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    if as_json:
        say_json(document)
    return 0


def _share_programs(settings: Settings) -> None:
    """Where a stack has its folder, what it or an earlier program compiled is not compiled again."""
    if settings.data_dir.is_dir():
        for name, value in compile_cache(settings).items():
            jax.config.update(name, value)  # type: ignore[no-untyped-call]
