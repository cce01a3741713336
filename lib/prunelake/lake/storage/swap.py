"""Compare and swap: replace a small file only if nobody has changed it since it was read."""

from prunelake.lake.storage.location import Location, create, put
from prunelake.lake.storage.locks import locked
from prunelake.lake.storage.objects import ObjectPath

SWAP_LOCK = ".lock"


def swap(path: Location, old: bytes | None, new: bytes | None) -> bool:
    """Replace the content `old` by `new`, where None means no file.

    Returns False, without a change, if another process was first. A store checks the condition
    itself; in a folder, a lock and the exclusive creation of files do.
    """
    if isinstance(path, ObjectPath):
        return _swap_object(path, old, new)
    with locked(path.parent, SWAP_LOCK):
        current = path.read_bytes() if path.is_file() else None
        if current != old:
            return False
        if new is None:
            path.unlink(missing_ok=True)
        elif old is None:
            # Fails if the file exists, even if the lock of another machine is not visible here.
            return create(path, new)
        else:
            put(path, new)
        return True


def _swap_object(path: ObjectPath, old: bytes | None, new: bytes | None) -> bool:
    current = path.prefetch()
    if current.content != old:
        return False
    if new is None:
        return current.tag is None or path.remove(current.tag)
    if current.tag is None:
        return path.create(new) is not None
    return path.replace(new, current.tag) is not None
