"""A place in memory that behaves like an object store, and tells a test of each operation before it happens."""

from collections.abc import Callable

from pipeline.errors import StoreError
from pipeline.store import Entry, Stat
from pipeline.store.objects import ObjectAppender


class MemoryPlace:
    """Objects in a dictionary. ``before(operation, key)`` is called first, and may raise.

    ``down`` stands for a store that does not answer: while it is set, every operation fails.
    """

    def __init__(
        self, objects: dict[str, bytes] | None = None, before: Callable[[str, str], None] | None = None
    ) -> None:
        self.objects = {} if objects is None else objects
        self.down = False
        self._before = before

    @property
    def url(self) -> str:
        return "memory://place"

    def get(self, key: str) -> bytes:
        self._tell("get", key)
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key]

    def put(self, key: str, data: bytes) -> None:
        self._tell("put", key)
        self.objects[key] = bytes(data)

    def delete(self, key: str) -> None:
        self._tell("delete", key)
        self.objects.pop(key, None)

    def entries(self, prefix: str = ""):
        self._tell("entries", prefix)
        for key, data in sorted(self.objects.items(), reverse=True):
            if not prefix or key.startswith(f"{prefix}/"):
                yield Entry(key, Stat(len(data), str(hash(data))))

    def appender(self, key: str) -> ObjectAppender:
        self._tell("appender", key)
        return ObjectAppender(self, key)

    def _tell(self, operation: str, key: str) -> None:
        if self.down:
            raise StoreError(f"{operation} {key}: the store does not answer")
        if self._before is not None:
            self._before(operation, key)


class Dies:
    """Raises at the n-th operation and at every later one: the process died there."""

    def __init__(self, n: int) -> None:
        self._left = n
        self.died = False

    def heal(self) -> None:
        """Let every further operation succeed."""
        self._left = 10**9

    def __call__(self, operation: str, key: str) -> None:
        if operation in ("put", "delete", "get", "entries"):
            self._left -= 1
        if self._left < 0:
            self.died = True
            raise StoreError(f"{operation} {key}: dead")
