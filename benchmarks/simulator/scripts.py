"""The product's Lua functions as they are, run by a Lua of the version that Redis has, against the modelled store."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lupa import lua51
from redis.exceptions import ResponseError

from benchmarks.simulator.stream_commands import error
from benchmarks.simulator.values import UnmodelledError
from nvp_agentkit.energy import ledger
from nvp_agentkit.streams import scripts as streams

if TYPE_CHECKING:
    from benchmarks.simulator.store import Store

# KEYS and ARGV are globals on a server; as arguments of the chunk they read the same. Errors are tables, as there.
HEAD = b"local redis, KEYS, ARGV = ...; "
REDIS = b"""
local asked = ...
local redis = {pcall = asked, log = function() end, LOG_WARNING = 2}
function redis.call(...)
  local answer = asked(...)
  if type(answer) == 'table' and answer.err then error(answer) end
  return answer
end
return function(chunk, keys, args)
  local ok, answer = pcall(chunk, redis, keys, args)
  if ok or type(answer) == 'table' then return answer end
  return {err = 'ERR ' .. tostring(answer)}
end
"""
PAIRS = frozenset({b"XGROUP", b"XINFO", b"SCRIPT", b"MEMORY"})  # commands of two words


def product_functions() -> list[bytes]:
    """All that the product has a server run."""
    names = {module: _names(f"nvp_agentkit.{module}") for module in ("streams", "energy")}
    texts = [streams._source(name)[0] for name in names["streams"]]
    texts += [ledger._source(name) for name in names["energy"] if name != "prelude"]
    return [text.encode() for text in texts]


def _names(package: str) -> list[str]:
    return sorted(path.name.removesuffix(".lua") for path in files(package).joinpath("lua").iterdir())


class Scripts:
    """Compiled once, however many stores there are in turn."""

    def __init__(self) -> None:
        self._lua = lua51.LuaRuntime(encoding=None)
        self._compiled: dict[bytes, Any] = {}
        self._shas: dict[bytes, bytes] = {}
        self._store: Store
        self._defect: UnmodelledError | None = None
        self._run = self._lua.compile(REDIS)(self._call)

    def sha(self, text: bytes) -> bytes:
        if text not in self._shas:
            sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
            self._compiled[sha], self._shas[text] = self._lua.compile(HEAD + text), sha
        return self._shas[text]

    def run(self, store: Store, sha: bytes, keys: list[bytes], args: list[bytes]) -> Any:
        """The function's answer. Like a server's it runs alone; what it did before an error stays done."""
        self._store = store
        answer = self._run(self._compiled[sha], self._lua.table_from(keys), self._lua.table_from(args))
        if self._defect is not None:
            raise self._defect
        answer = self._answer(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _call(self, *said: Any) -> Any:
        try:
            return self._told(self._execute(said))
        except ResponseError as error:
            return self._lua.table_from({b"err": str(error).encode()})
        except UnmodelledError as defect:  # Lua's pcall must not hide it
            self._defect = defect
            raise

    def _execute(self, said: tuple[Any, ...]) -> Any:
        words = tuple([one if type(one) is bytes else _text(one) for one in said])
        if words[0] in PAIRS:
            return self._store.execute(b"%s %s" % words[:2], words[2:])
        answer = self._store.execute(words[0], words[1:])
        return list(map(list, answer.items())) if words[0] == b"XREADGROUP" and answer else answer  # no map in RESP2

    def _told(self, answer: Any) -> Any:
        """An answer as Lua gets it: RESP2, nil as false."""
        kind = type(answer)
        if kind is int or (kind is bytes and answer != b"OK"):
            return answer
        if answer is None:
            return False
        if kind is list:
            return self._lua.table_from([self._told(one) for one in answer])
        if kind is dict:
            return self._lua.table_from([self._told(one) for pair in answer.items() for one in pair])
        return self._lua.table_from({b"ok": answer})

    def _answer(self, value: Any) -> Any:
        """What a function gave back, as a client gets it."""
        if value is None or value is False:
            return None
        if value is True:
            return 1
        if type(value) is float:
            return int(value)
        if isinstance(value, int | bytes):
            return value
        if (status := value[b"ok"]) is not None:
            return status
        if (failed := value[b"err"]) is not None:
            return error(failed.decode())
        answers: list[Any] = []
        while (item := value[len(answers) + 1]) is not None:
            answers.append(self._answer(item))
        return answers


def _text(number: int | float) -> bytes:
    return b"%d" % number if number == int(number) else repr(number).encode()
