"""Runs every command of the installed ``nvp`` in this process; prints, as JSON, how each ends and what it says."""

import contextlib
import io
import json
import sys

from nvp_agentkit.cli import app

PLAUSIBLE = {"name": "inference", "add_j": "1", "steps": "1"}


def leaves(command, words=()):
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, (*words, name))
    if not hasattr(command, "commands"):
        needed = [one for one in command.params if one.required]
        yield [*words, *(word for one in needed for word in given(one))]


def given(needed):
    value = PLAUSIBLE.get(needed.name, "x")
    return [value] if needed.param_type_name == "argument" else [needed.opts[0], value]


def outcome(words):
    sys.argv = ["nvp", *words]
    said = {"stdout": io.StringIO(), "stderr": io.StringIO()}
    with contextlib.redirect_stdout(said["stdout"]), contextlib.redirect_stderr(said["stderr"]):
        try:
            app.run()
        except SystemExit as ended:
            status = ended.code
        except Exception as error:  # noqa: BLE001  what nobody turned into words
            status = repr(error)
    return {"status": status, **{name: text.getvalue() for name, text in said.items()}}


print(json.dumps({" ".join(words): outcome(words) for words in leaves(app.command_line())}))
