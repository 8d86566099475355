"""What the store promises, on each of its places: a folder, memory, and a bucket behind the S3 protocol."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import nvp_agentkit
from nvp_agentkit.artifacts import Artifacts, inline_array
from nvp_agentkit.errors import DigestMismatch, InvalidField, InvalidInput, StoreUnavailable, UnknownName
from nvp_agentkit.messages import ArrayRef, ObjectRef
from nvp_agentkit.settings import Settings

HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
FIELD = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    """The same promises everywhere."""
    if request.param == "s3":
        request.getfixturevalue("s3_server")
    url = {"folder": str(tmp_path / "store"), "memory": "memory://", "s3": "s3://bucket/prefix"}[request.param]
    return Artifacts(url, cache=tmp_path / "cache")


def object_file(folder: Path, ref: ObjectRef | ArrayRef) -> Path:
    return folder / (ref.uri or "").removeprefix("artifact:")


async def test_what_was_put_comes_back(store: Artifacts) -> None:
    ref = await store.put(b"hello", "text/plain")
    assert ref == ObjectRef(uri=f"artifact:sha256/2c/{HELLO[9:]}", digest=HELLO, bytes=5, media_type="text/plain")
    assert await store.get(ref, max_bytes=5) == b"hello"


async def test_a_file_is_the_object_that_its_bytes_are(store: Artifacts, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4 * 1024 * 3  # more than is copied at once
    (tmp_path / "mine").write_bytes(data)
    for _ in range(2):
        with (tmp_path / "mine").open("rb") as file:
            assert await store.put_file(file, "text/plain") == await store.put(data, "text/plain")


async def test_what_was_removed_is_gone_from_the_cache_too_and_may_be_put_again(store: Artifacts) -> None:
    ref = await store.put(b"hello")
    path = await store.local_path(ref)
    for _ in range(2):
        await store.remove(ref)
        with pytest.raises(UnknownName):
            await store.get(ref)
        assert not path.exists()
    assert await store.put(b"hello") == ref
    assert await store.get(ref) == b"hello"


async def test_nothing_at_all_can_be_kept_too(store: Artifacts) -> None:
    assert await store.get(await store.put(b""), max_bytes=0) == b""


async def test_the_same_bytes_twice_are_one_object(store: Artifacts) -> None:
    assert await store.put(b"hello") == await store.put(b"hello")


async def test_an_object_larger_than_one_upload_part_comes_back(store: Artifacts) -> None:
    data = bytes(range(256)) * 4 * 1024 * 6
    assert await store.get(await store.put(data), max_bytes=len(data)) == data


async def test_an_array_comes_back_with_shape_dtype_and_units(store: Artifacts) -> None:
    ref = await store.put_array(FIELD, "J")
    assert (ref.shape, ref.dtype, ref.units, ref.inline) == ((3, 4), "float32", "J", None)
    np.testing.assert_array_equal(await store.get_array(ref, max_cells=12), FIELD)
    np.testing.assert_array_equal(store.fetch_array(ref), FIELD)


async def test_what_is_not_there_is_an_unknown_name(store: Artifacts) -> None:
    ref = ObjectRef(uri=f"artifact:sha256/2c/{HELLO[9:]}", digest=HELLO, bytes=5)
    with pytest.raises(UnknownName, match="put it again"):
        await store.get(ref, max_bytes=5)
    with pytest.raises(UnknownName, match="put it again"):
        await store.local_path(ref)


async def test_another_size_than_announced_is_refused(store: Artifacts) -> None:
    ref = (await store.put(b"hello")).model_copy(update={"bytes": 6})
    with pytest.raises(DigestMismatch, match="has 5 bytes, 6 were announced"):
        await store.get(ref, max_bytes=10)


async def test_a_local_path_leads_to_the_bytes_wherever_the_store_is(store: Artifacts) -> None:
    ref = await store.put(b"hello")
    assert (await store.local_path(ref)).read_bytes() == b"hello"
    assert (await store.local_path(ref)).read_bytes() == b"hello"


async def test_a_damaged_cache_is_repaired(tmp_path: Path) -> None:
    store = Artifacts("memory://", cache=tmp_path)
    ref = await store.put(b"hello")
    (await store.local_path(ref)).write_bytes(b"hallo")
    assert (await store.local_path(ref)).read_bytes() == b"hello"


async def test_a_remote_store_without_a_cache_has_no_local_paths() -> None:
    store = Artifacts("memory://")
    with pytest.raises(InvalidInput, match="needs a cache folder"):
        await store.local_path(await store.put(b"hello"))


async def test_damaged_bytes_are_never_returned_and_putting_them_again_repairs(tmp_path: Path) -> None:
    store = Artifacts(str(tmp_path))
    ref = await store.put(b"hello")
    for damaged in (b"hallo", b""):
        object_file(tmp_path, ref).write_bytes(damaged)
        for read in (store.get(ref, max_bytes=5), store.local_path(ref)):
            with pytest.raises(DigestMismatch):
                await read
        await store.put(b"hello")
        assert await store.get(ref, max_bytes=5) == b"hello"


@pytest.mark.parametrize("read", [Artifacts.get, Artifacts.local_path])
async def test_a_pipe_in_the_place_of_an_object_holds_nobody_and_putting_it_again_repairs(
    tmp_path: Path, read: Callable[[Artifacts, ObjectRef], Awaitable[object]]
) -> None:
    store = Artifacts(str(tmp_path))
    ref = await store.put(b"hello")
    path = object_file(tmp_path, ref)
    path.unlink()
    os.mkfifo(path)
    try:
        with pytest.raises(DigestMismatch, match="has 0 bytes"):
            await asyncio.wait_for(read(store, ref), 5)
    finally:
        with suppress(OSError):  # whoever waits for a writer is let go
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    assert await store.put(b"hello") == ref
    assert await store.get(ref) == b"hello"


async def test_an_object_over_the_limit_is_not_even_looked_for(tmp_path: Path) -> None:
    store = Artifacts(str(tmp_path / "not-there"))
    ref = ObjectRef(uri=f"artifact:sha256/2c/{HELLO[9:]}", digest=HELLO, bytes=10**12)
    for read in (store.get(ref, max_bytes=1_000), store.local_path(ref, max_bytes=1_000)):
        with pytest.raises(InvalidInput, match=r"1,000,000,000,000 bytes, limit 1,000;"):
            await read


async def test_a_shape_that_promises_too_much_is_refused_before_reading(tmp_path: Path) -> None:
    ref = ArrayRef(shape=(100_000, 100_000), digest=HELLO, uri=f"artifact:sha256/2c/{HELLO[9:]}")
    with pytest.raises(InvalidField, match=r"100000 x 100000 = 10,000,000,000 cells, limit 16,777,216"):
        await Artifacts(str(tmp_path)).get_array(ref, max_cells=16_777_216)


async def test_a_shape_that_does_not_fit_the_bytes_is_refused(store: Artifacts) -> None:
    ref = await store.put_array(FIELD)
    for lie in ({"shape": (4, 4)}, {"dtype": "float16"}):
        with pytest.raises(DigestMismatch, match="48 bytes"):
            await store.get_array(ref.model_copy(update=lie), max_cells=100)


@pytest.mark.parametrize(
    "uri",
    [
        "artifact:sha256/../../etc/passwd",
        "artifact:/etc/passwd",
        "artifact:sha256/2c/" + "../" * 20 + "etc/passwd",
        f"artifact:sha256/2c/{HELLO[9:]}/../x",
        f"artifact:sha256/2C/{HELLO[9:].upper()}",
        f"artifact:sha256/2c/{HELLO[9:]}\n",
        "file:///etc/passwd",
        "s3://other/bucket",
        "http://127.0.0.1/",
    ],
)
async def test_no_uri_leads_out_of_the_store(tmp_path: Path, uri: str) -> None:
    store = Artifacts(str(tmp_path))
    with pytest.raises(InvalidInput, match="is no artifact"):
        await store.get(ObjectRef(uri=uri, digest=HELLO, bytes=5), max_bytes=5)
    with pytest.raises(InvalidInput, match="is no artifact"):
        await store.local_path(ObjectRef(uri=uri, digest=HELLO, bytes=5))


async def test_a_uri_and_a_digest_of_different_bytes_are_refused(tmp_path: Path) -> None:
    store = Artifacts(str(tmp_path))
    hello, other = await store.put(b"hello"), await store.put(b"other")
    with pytest.raises(DigestMismatch, match="must be the same bytes"):
        await store.get(hello.model_copy(update={"uri": other.uri}), max_bytes=5)


@given(
    arrays.arrays(
        dtype=st.sampled_from([np.float32, np.float16, np.dtype(">f4")]),
        shape=arrays.array_shapes(min_dims=1, max_dims=4, max_side=6),
    )
)
def test_a_small_array_travels_inline_bit_for_bit(array: np.ndarray) -> None:
    ref = ArrayRef.model_validate_json(inline_array(array, "K").model_dump_json())
    back = Artifacts("memory://").fetch_array(ref)
    assert back.dtype.name == array.dtype.name
    np.testing.assert_array_equal(back, array)


async def test_an_array_has_one_digest_inline_and_by_reference(store: Artifacts) -> None:
    assert inline_array(FIELD).digest == (await store.put_array(FIELD)).digest
    assert inline_array(FIELD[:, ::2]).digest == inline_array(FIELD[:, ::2].copy()).digest


def test_an_array_that_is_read_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Artifacts("memory://").fetch_array(inline_array(FIELD))[0, 0] = 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2)), "float64"),
        (np.zeros((2, 2), dtype=np.int32), "int32"),
        (np.array([[None]]), "object"),
        (np.zeros((0, 4), dtype=np.float32), r"\(0, 4\)"),
        (np.zeros((1,) * 5, dtype=np.float32), "1 to 4 dimensions"),
        (np.float32(3.0).reshape(()), "1 to 4 dimensions"),
    ],
)
async def test_only_arrays_of_half_and_single_floats_are_kept(array: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        await Artifacts("memory://").put_array(array)
    with pytest.raises(InvalidField, match=message):
        inline_array(array)


def test_an_array_over_16_kib_does_not_travel_inline() -> None:
    inline_array(np.zeros(4096, dtype=np.float32))
    with pytest.raises(InvalidField, match="16388 bytes, inline limit 16384"):
        inline_array(np.zeros(4097, dtype=np.float32))


@pytest.mark.parametrize(
    ("inline", "error"),
    [
        ("A" * 1000, "takes 64"),
        ("!" * 64, "no base64"),
        ("é" * 64, "no base64"),
        (base64.b64encode(b"x" * 48).decode(), "not sha256:"),
    ],
)
def test_inline_bytes_that_are_not_the_array_are_refused(inline: str, error: str) -> None:
    ref = inline_array(FIELD).model_copy(update={"inline": inline})
    with pytest.raises((InvalidField, DigestMismatch), match=error):
        Artifacts("memory://").fetch_array(ref)


def test_inline_bytes_short_of_the_shape_are_refused_even_with_their_own_digest() -> None:
    short = b"x" * 47
    ref = inline_array(FIELD).model_copy(
        update={"inline": base64.b64encode(short).decode(), "digest": f"sha256:{hashlib.sha256(short).hexdigest()}"}
    )
    with pytest.raises(DigestMismatch, match="47 bytes"):
        Artifacts("memory://").fetch_array(ref)


FULL_DISK = """
import asyncio, json, resource, signal, sys
from nvp_agentkit.artifacts import Artifacts
from nvp_agentkit.errors import StoreUnavailable

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    asyncio.run(Artifacts(sys.argv[1]).put(b"x" * 2000))
except StoreUnavailable as error:
    print(json.dumps(str(error)))
"""


def test_a_folder_that_cannot_take_more_is_named_and_left_clean(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "full")], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(nvp_agentkit.__file__).parents[1])},
    )  # fmt: skip
    message = json.loads(done.stdout)
    assert message.startswith(f"cannot write 2,000 bytes to the artifact folder {tmp_path / 'full'}: ")
    assert "make room" in message
    assert [path for path in (tmp_path / "full").rglob("*") if path.is_file()] == []


async def test_a_folder_that_is_none_is_an_unavailable_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Artifacts(str(tmp_path / "file"))
    with pytest.raises(StoreUnavailable, match="Not a directory") as away:
        await store.put(b"hello")
    assert away.value.retryable
    with pytest.raises(StoreUnavailable, match="Not a directory"):
        await store.get(ObjectRef(uri=f"artifact:sha256/2c/{HELLO[9:]}", digest=HELLO, bytes=5))


async def test_a_bucket_that_is_away_is_an_unavailable_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    store = Artifacts("s3://bucket")
    ref = ObjectRef(uri=f"artifact:sha256/2c/{HELLO[9:]}", digest=HELLO, bytes=5)
    for attempt in (store.put(b"hello"), store.get(ref)):
        with pytest.raises(StoreUnavailable, match="s3://bucket"):
            await attempt


@pytest.mark.parametrize("url_of", [str, Path.as_uri])
async def test_a_folder_may_be_a_path_or_a_url(tmp_path: Path, url_of: Callable[[Path], str]) -> None:
    folder = tmp_path / "a folder"
    ref = await Artifacts(url_of(folder)).put(b"hello")
    assert object_file(folder, ref).read_bytes() == b"hello"


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(InvalidInput, match="write file:///folder"):
        Artifacts("file://[folder")
    with pytest.raises(InvalidInput, match="known are a folder, s3://bucket/prefix and memory://"):
        Artifacts("ftp://example.org")


@pytest.mark.parametrize("url", ["s3://", "s3://a bucket/prefix", "s3://[bucket"])
def test_a_bucket_that_cannot_be_named_so_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(InvalidInput, match="write s3://bucket/prefix") as refused:
        Artifacts(url)
    assert "\n" not in str(refused.value)


async def test_settings_lead_to_the_embedded_folder_or_the_named_store(tmp_path: Path) -> None:
    ref = await Artifacts.from_settings(Settings(data_dir=tmp_path)).put(b"hello")
    assert object_file(tmp_path / "artifacts", ref).exists()
    ref = await Artifacts.from_settings(Settings(data_dir=tmp_path, artifacts_url=str(tmp_path / "other"))).put(b"x")
    assert object_file(tmp_path / "other", ref).exists()


def test_importing_the_store_does_not_import_obstore() -> None:
    code = "import nvp_agentkit.artifacts, sys; sys.exit('obstore' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(nvp_agentkit.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
