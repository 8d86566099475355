"""What 20,000 broken files do to the reader: crashes, hangs and memory, over two processes that import them.

A file is a small valid one of each format with bytes flipped, cut, repeated or swapped; or, where that alone would
only break a checksum, with numbers, names and types of its description replaced and packed again. Its number is its
seed, so that one can be looked at by itself: ``python -m benchmarks.hostile_files 4711``.
"""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import sample_files
from benchmarks.verdict import ROOT, Figure
from nvp_agentkit.errors import InvalidField, InvalidFile, InvalidInput
from nvp_agentkit.fields import open_sequences
from nvp_agentkit.fields.readers import Meant, take_in

INPUTS, QUICK_INPUTS = 20_000, 1_000
WORKERS = 2
HANGS_AFTER_S = 10.0
WARM_UP = 100  # files after which what is imported once is there
EXTREMES = (b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff" * 4, b"\xff\xff\xff\x7f", b"\xff" * 8, b"\x00" * 8)
WORDS = (
    b"0", b"-1", b"99999999999999", b"1e999", b"null", b"[]", b"{}", b'"|O"', b'"<f8"', b"NaN", b"True", b"2147483648",
    b'"pickle"', b'"blosc"', b"[[1]]", b"18446744073709551616", b"18",
)  # fmt: skip


def measure(*, quick: bool) -> dict[str, Figure]:
    """All inputs, each once."""
    inputs, began = QUICK_INPUTS if quick else INPUTS, time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        tallies = list(pool.map(lambda first: _supervised(first, inputs), range(WORKERS)))
    total = sum(tallies, Counter[str]())
    growth_kb = max(tally["growth_kb"] for tally in tallies)
    return {
        "crashes": Figure(total["crash"], "inputs", floor=0),
        "hangs": Figure(total["hang"], "inputs", floor=0),
        "rss_growth_mb": Figure(round(growth_kb / 1024, 1), "MB", floor=200),
        "inputs": Figure(sum(total[name] for name in ("read", "refused", "crash", "hang")), "inputs"),
        "read_all_the_same": Figure(total["read"], "inputs"),
        "seconds": Figure(round(time.monotonic() - began, 1), "s"),
    }


def _supervised(first: int, inputs: int) -> Counter[str]:
    """Numbers ``first``, ``first`` + `WORKERS`, ...; a process that ends or hangs is replaced and its file counted."""
    tally: Counter[str] = Counter()
    number = first
    while number < inputs:
        with subprocess.Popen(
            [sys.executable, "-m", __name__, str(number), str(inputs)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as worker:
            at, done = _followed(worker, tally)
            if done:
                break
            print(f"{'hang' if worker.poll() is None else 'crash'} at input {at}", flush=True)
            tally["hang" if worker.poll() is None else "crash"] += 1
            worker.kill()
        number = (number if at is None else at) + WORKERS
    return tally


def _followed(worker: subprocess.Popen[str], tally: Counter[str]) -> tuple[int | None, bool]:
    """The last input it began, and whether it ended by itself."""
    at, assert_out = None, worker.stdout
    with ThreadPoolExecutor(1) as reading:
        while True:
            line = reading.submit(lambda: assert_out.readline() if assert_out else "")
            try:
                words = line.result(HANGS_AFTER_S + (20 if at is None else 0)).split()
            except TimeoutError:
                worker.kill()
                return at, False
            match words:
                case ["at", number]:
                    at = int(number)
                case ["done", growth_kb]:
                    tally["growth_kb"] = max(tally["growth_kb"], int(growth_kb))
                    return at, True
                case [outcome]:
                    tally[outcome] += 1
                case _:
                    worker.wait()
                    return at, False


def main(arguments: list[str]) -> None:
    """``NUMBER`` tries one file and tells; ``FIRST INPUTS`` is a worker's part."""
    with tempfile.TemporaryDirectory(prefix="nvp-hostile-") as folder:
        valid = samples(Path(folder))
        if len(arguments) == 1:
            print(outcome(mutant(int(arguments[0]), valid), Path(folder), loud=True))
            return
        first, inputs = map(int, arguments)
        before_kb = 0
        for count, number in enumerate(range(first, inputs, WORKERS)):
            print("at", number, flush=True)
            print(outcome(mutant(number, valid), Path(folder)), flush=True)
            if count == WARM_UP:
                before_kb = peak_kb()
        print("done", peak_kb() - before_kb, flush=True)


def peak_kb() -> int:
    """The most memory this program had (`ru_maxrss` would count the one that started it, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def samples(folder: Path) -> list[bytes]:
    """The valid file of each format."""
    found = []
    for name, make in sample_files.FORMATS.items():
        make(folder / name)
        found.append((folder / name).read_bytes())
    return found


def outcome(data: bytes, folder: Path, *, loud: bool = False) -> str:
    """``read``, ``refused``, or ``crash`` for an error that is none of ours."""
    path, out = folder / "input", folder / "taken"
    path.write_bytes(data)
    try:
        take_in(path, out, Meant("x"))
        open_sequences(out)
    except (InvalidFile, InvalidField, InvalidInput) as refusal:
        if loud:
            print(refusal)
        return "refused"
    except Exception:  # noqa: BLE001 - this is what is looked for
        traceback.print_exc()
        return "crash"
    return "read"


def mutant(number: int, valid: list[bytes]) -> bytes:
    """Input ``number``, the same each time."""
    rng = random.Random(number)
    data = rng.choice(valid)
    if data.startswith(b"PK") and rng.random() < 0.7:
        return _repacked(data, rng)
    if rng.random() < 0.2:
        return _reworded(data, rng)
    return _scrambled(data, rng)


def _repacked(data: bytes, rng: random.Random) -> bytes:
    """One entry of the archive changed, and its checksum right."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        victim = rng.choice([name for name in names if "json" in name or ".z" in name] or names)
        victim = rng.choice([victim, rng.choice(names)])
        for name in names:
            content = old.read(name)
            if name == victim:
                content = _reworded(content, rng) if rng.random() < 0.7 else _scrambled(content, rng)
            new.writestr(name, content)
    return packed.getvalue()


def _reworded(data: bytes, rng: random.Random) -> bytes:
    """Numbers and words of a text replaced by others."""
    places = [match.span() for match in re.finditer(rb'-?\d+(?:\.\d+)?|"[^"]{1,40}"|true|false|null', data[: 1 << 16])]
    for begin, end in sorted(rng.sample(places, min(len(places), rng.choice((1, 1, 2, 4)))), reverse=True):
        data = data[:begin] + rng.choice(WORDS) + data[end:]
    return data


def _scrambled(data: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(spoilt) if rng.random() < 0.5 else min(len(spoilt), 2048)) if spoilt else 0
        other = rng.randrange(len(spoilt)) if spoilt else 0
        match rng.randrange(6):
            case 0 if spoilt:
                spoilt[place] ^= 1 << rng.randrange(8)
            case 1:
                extreme = rng.choice(EXTREMES)
                spoilt[place : place + len(extreme)] = extreme
            case 2 if rng.random() < 0.2:
                del spoilt[place:]
            case 3:
                spoilt[place : place + 8] = spoilt[other : other + 8]
            case 4:
                del spoilt[place : place + rng.randrange(16)]
            case 5:
                spoilt[place:place] = spoilt[other : other + rng.randrange(64)]
    return bytes(spoilt)


if __name__ == "__main__":
    main(sys.argv[1:])
