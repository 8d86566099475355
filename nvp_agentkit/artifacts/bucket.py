"""Objects in an S3-compatible bucket, or in memory, through obstore."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from nvp_agentkit.artifacts import content
from nvp_agentkit.errors import InvalidInput, StoreUnavailable


class Bucket:
    """Objects under a URL: ``s3://bucket/prefix`` or ``memory://``.

    Credentials and endpoint of a bucket are the S3 client's own variables (``AWS_ACCESS_KEY_ID``,
    ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``, ``AWS_REGION``).
    """

    def __init__(self, url: str) -> None:
        from obstore.exceptions import BaseError
        from obstore.store import MemoryStore, S3Store

        self._url = url
        if url.startswith("memory://"):
            self._store: Any = MemoryStore()
        else:
            # The defaults retry for three minutes: a request would be late long before it is refused. Plain http is
            # what a bucket next door (MinIO in compose) speaks; it takes an endpoint that says so.
            try:
                self._store = S3Store.from_url(
                    url,
                    client_options={"allow_http": True, "connect_timeout": "5s", "timeout": "60s"},
                    retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
                )
            except (BaseError, ValueError) as error:
                reason = str(error).partition("\n")[0]  # what follows is a dump of its insides
                raise InvalidInput(f"artifacts at {url!r}: {reason}; write s3://bucket/prefix") from error

    def read(self, name: str, size: int) -> bytes | None:
        """The object; None if there is none. Raises `DigestMismatch` if its size is another one."""
        from obstore import get
        from obstore.exceptions import BaseError

        try:
            result = get(self._store, name)
            content.check_size(name, result.meta["size"], size)
            return bytes(result.bytes())
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise self._unavailable(error) from error

    def write(self, name: str, data: bytes) -> None:
        """Place the object, unless it is there."""
        from obstore import put
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            put(self._store, name, data, mode="create")
        except AlreadyExistsError:
            return
        except BaseError as error:
            raise self._unavailable(error) from error

    def remove(self, name: str) -> None:
        """Forget the object, if it is there."""
        from obstore import delete
        from obstore.exceptions import BaseError

        try:
            delete(self._store, name)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        first_line = str(error).strip().partition("\n")[0]
        return StoreUnavailable(f"artifact store {self._url}: {first_line}; check its address and credentials")
