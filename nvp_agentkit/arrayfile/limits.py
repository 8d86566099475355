"""How much a stranger's file may ask for, and how what goes wrong with it becomes one sentence."""

from __future__ import annotations

import math
import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nvp_agentkit.errors import InvalidFile, MissingExtra

MAX_CELLS = 2**27  # read at once: 512 MiB as float32
MIN_SIDE = 16
MAX_ENTRIES = 256  # arrays in one .npz
MAX_OBJECTS = 1024  # variables and groups in one file
MAX_COORDINATE = 2**20  # values of one axis: more frames than that are two files
MAX_CHUNKS = 2**17  # pieces an array is stored in
MAX_CHUNK_BYTES = 2**28  # of one of them, unpacked
MAX_METADATA = 1 << 20  # bytes of one description, or of one name or attribute
MAX_RATIO = 900  # bytes promised for each byte that the file has: zeros alone pack better (deflate: 1032)
MEMORY = 3 << 30  # address space that opening and reading may take on top of what the process has
STATM = Path("/proc/self/statm")


@contextmanager
def bounded_memory() -> Iterator[None]:
    """What is allocated inside is refused beyond `MEMORY` (where there is /proc): the last wall, not the first."""
    if not STATM.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(STATM.read_text().split()[0]) * resource.getpagesize() + MEMORY
    limits = [limit, *(old for old in (soft, hard) if old != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """`named`, in bounded memory: for a description that is not known yet."""
    with named(name), bounded_memory(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a library's remark on an attribute that nobody asked for
        yield


@contextmanager
def named(name: str) -> Iterator[None]:
    """What goes wrong with a file, as one `InvalidFile` that names it."""
    try:
        yield
    except MissingExtra:
        raise
    except InvalidFile as error:
        if str(error).startswith(name.partition(":")[0]):
            raise
        raise InvalidFile(f"{name}: {error}") from error
    except OSError as error:
        raise InvalidFile(f"{name}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise InvalidFile(
            f"{name}: unpacks to more memory than the limit of {MEMORY >> 30} GiB; cut it in time or space"
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise InvalidFile(f"{name}: broken or encrypted ({reason}); write it again from the original") from error


def check_stored(name: str, shape: tuple[int, ...], promised: int, stored: int, *, packed: bool) -> None:
    """Refuse an array of ``promised`` bytes in a file that has ``stored``."""
    limit = stored * (MAX_RATIO if packed else 1)
    if promised > limit:
        times = f" times the packing limit {MAX_RATIO}" if packed else ""
        raise InvalidFile(f"{name}: shape {shape} needs {promised:,} bytes, not {stored:,}{times}; copy it again")


def check_chunks(name: str, shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int) -> None:
    """Refuse pieces that are too large to unpack or too many to look up."""
    if len(chunks) != len(shape) or min(chunks, default=1) < 1:
        raise InvalidFile(f"{name}: chunks {chunks} do not fit shape {shape}; write it again")
    nbytes = math.prod(chunks) * itemsize
    if nbytes > MAX_CHUNK_BYTES:
        raise InvalidFile(f"{name}: chunks {chunks} of {nbytes:,} bytes, limit {MAX_CHUNK_BYTES:,}; rechunk it")
    count = math.prod(-(-side // chunk) for side, chunk in zip(shape, chunks, strict=True))
    if count > MAX_CHUNKS:
        raise InvalidFile(f"{name}: {count:,} chunks of {chunks}, limit {MAX_CHUNKS:,}; rechunk it by frames")
