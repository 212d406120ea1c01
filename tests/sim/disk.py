"""A disk behind the calls that the receiver's gate makes: what a crash of the machine leaves is decided by the tape.

A file's writes since its last sync are a list: a power loss keeps a prefix of it and half of the next write. What was
done to names is a list too, in order, over the whole file system, as journalling file systems keep it: a power loss
keeps a prefix of what no synced directory has made durable. So a name may survive without its data, never a rename
by half. The death of the process alone loses nothing. ENOSPC and EIO come at chosen operations; names may be folded.
What is written and is what an offered file holds there is not kept but made again, so that a file may be a terabyte.
"""

from __future__ import annotations

import errno
import os
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING

from tests.sim.stretches import Made, Stretches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sim.tape import Tape

OUT = "/out"
UID = os.geteuid()
NEW_NS = 4 * 10**18
"""The time of what was written here: a century from now, so that no clock of the machine makes it old."""


class Node:
    """A file, folder or link."""

    __slots__ = (
        "data",
        "durable",
        "durable_version",
        "entries",
        "kind",
        "mode",
        "mtime_ns",
        "names",
        "number",
        "target",
        "unsynced",
        "version",
    )

    def __init__(self, number: int, kind: int, mode: int) -> None:
        self.number = number
        self.kind = kind
        self.mode = mode
        self.mtime_ns = NEW_NS
        self.names = 0
        self.data = Stretches()
        self.durable = Stretches()
        self.unsynced: list[tuple[int, bytes | Made, int]] = []
        """Where it begins, what it is, where it ends."""
        self.entries: dict[str, tuple[str, Node]] = {}
        self.target = ""
        self.version = 0
        self.durable_version = 0

    @property
    def folder(self) -> bool:
        return self.kind == stat.S_IFDIR


class SimDisk:
    """One file system, as `SystemCalls` sees it."""

    def __init__(
        self,
        tape: Tape,
        *,
        folds: bool = False,
        hard_links: bool = True,
        plain: bool = False,
        piece_bytes: int = 0,
    ) -> None:
        """`plain` keeps neither modes nor times nor second names, as FAT; `piece_bytes` is what one call moves at most."""
        self._tape = tape
        self._folds = folds
        self._hard_links = hard_links and not plain
        self.plain = plain
        self._piece_bytes = piece_bytes or 1 << 40
        self.read_only = False
        self.free_blocks: int | None = 1 << 30
        self._numbers = 1
        self.top = Node(1, stat.S_IFDIR, 0o755)
        self._durable_names: dict[Node, dict[str, tuple[str, Node]]] = {self.top: {}}
        self._unsynced_names: list[list[tuple[Node, str, tuple[str, Node] | None]]] = []
        self._open: dict[int, Node] = {}
        self._locked: dict[Node, int] = {}
        self._next_handle = 100
        self.operations = 0
        self.fail_at: dict[int, int] = {}
        self.full = False
        self.failed = False
        self.changed = True
        self.recognise: Callable[[int, bytes], Made | None] = lambda offset, piece: None
        """Says of which offered file a piece is, if it is worth not being kept."""

    # -- trouble -------------------------------------------------------------------------------------------

    def _operation(self, *, grows: bool = False) -> None:
        self.operations += 1
        number = self.fail_at.pop(self.operations, 0)
        if grows and self.full:
            number = number or errno.ENOSPC
        if number:
            self.failed = True
            raise OSError(number, os.strerror(number))

    @property
    def handles(self) -> int:
        """Return how many descriptors are open."""
        return len(self._open)

    def kill(self) -> None:
        """Lose the process: its descriptors are closed, the disk keeps everything."""
        self._open.clear()

    def power_loss(self) -> None:
        """Lose what was not synced, as the tape says."""
        self._open.clear()
        keep = len(self._unsynced_names)
        if self._tape.below(2) == 1:
            keep = self._tape.below(keep + 1)
        for steps in self._unsynced_names[:keep]:
            self._make_durable(steps)
        self._unsynced_names.clear()
        for node in self._every_node():
            node.entries = dict(self._durable_names.get(node, {}))
            node.names = 0
        for node in self._every_node():
            for _, inner in node.entries.values():
                inner.names += 1
        for node in self._every_node():
            if node.unsynced:
                self._tear(node)
        self.changed = True

    def _tear(self, node: Node) -> None:
        kept = self._tape.below(len(node.unsynced) + 1)
        data = node.durable.copy()
        writes = node.unsynced[:kept]
        if kept < len(node.unsynced):
            offset, torn, end = node.unsynced[kept]
            length = self._tape.below(end - offset + 1)
            writes.append((offset, _first(torn, length), offset + length))
        for offset, piece, end in writes:
            data.put(offset, piece, end)
        node.data = data
        node.durable = data.copy()
        node.unsynced = []
        node.version += 1
        node.durable_version += 1

    def _every_node(self) -> list[Node]:
        found: dict[int, Node] = {}
        stack = [self.top, *self._durable_names]
        while stack:
            node = stack.pop()
            if node.number not in found:
                found[node.number] = node
                stack.extend(inner for _, inner in node.entries.values())
        return list(found.values())

    # -- names ---------------------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        return name.casefold() if self._folds else name

    def _at(self, path: str, dir_fd: int | None) -> tuple[Node, str]:
        """Return the folder and the last name of a path: below a handle, or from the top."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        node = self.top if dir_fd is None else self._node(dir_fd)
        for part in parts[:-1]:
            node = self._entry(node, part)
        return node, parts[-1] if parts else "."

    def _entry(self, folder: Node, name: str) -> Node:
        if name == ".":
            return folder
        found = folder.entries.get(self._key(name))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return found[1]

    def _node(self, handle: int) -> Node:
        if handle not in self._open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._open[handle]

    def _name(self, *steps: tuple[Node, str, Node | None]) -> None:
        """Change names, all steps or none."""
        kept: list[tuple[Node, str, tuple[str, Node] | None]] = []
        for folder, name, node in steps:
            value = None if node is None else (name, node)
            kept.append((folder, self._key(name), value))
            standing = folder.entries.get(self._key(name))
            if standing is not None:
                standing[1].names -= 1
            if node is not None:
                node.names += 1
            if value is None:
                del folder.entries[self._key(name)]
            else:
                folder.entries[self._key(name)] = value
        self._unsynced_names.append(kept)
        self.changed = True

    def _make_durable(self, steps: list[tuple[Node, str, tuple[str, Node] | None]]) -> None:
        for folder, key, value in steps:
            entries = self._durable_names.setdefault(folder, {})
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value

    def _new(self, kind: int, mode: int) -> Node:
        self._numbers += 1
        return Node(self._numbers, kind, mode & 0o7777)

    def _free(self, folder: Node, name: str) -> None:
        if self._key(name) in folder.entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)

    # -- the calls of `tallow_protocol.disk.calls.SystemCalls` ------------------------------------------------

    def make_folders(self, path: str) -> None:
        at = ""
        for part in path.strip("/").split("/"):
            at += "/" + part
            folder, name = self._at(at, None)
            if self._key(name) not in folder.entries:
                self._make(folder, name, 0o755)

    def open(self, name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self._operation(grows=bool(flags & os.O_CREAT))
        folder, last = self._at(name, dir_fd)
        if flags & os.O_CREAT:
            if flags & os.O_EXCL:
                self._free(folder, last)
            if self._key(last) not in folder.entries:
                self._name((folder, last, self._new(stat.S_IFREG, mode & ~0o022)))
        node = self._entry(folder, last)
        if flags & os.O_NOFOLLOW and node.kind == stat.S_IFLNK:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), last)
        if flags & os.O_DIRECTORY and not node.folder:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), last)
        if flags & os.O_TRUNC:
            self._write(node, 0, None)
        self._next_handle += 1
        self._open[self._next_handle] = node
        return self._next_handle

    def close(self, handle: int) -> None:
        self._node(handle)
        del self._open[handle]

    def mkdir(self, name: str, mode: int = 0o777, *, dir_fd: int) -> None:
        self._make(self._node(dir_fd), name, mode & ~0o022)

    def _make(self, folder: Node, name: str, mode: int) -> None:
        self._operation(grows=True)
        self._free(folder, name)
        self._name((folder, name, self._new(stat.S_IFDIR, mode)))

    def rmdir(self, name: str, *, dir_fd: int) -> None:
        self._operation()
        folder = self._node(dir_fd)
        node = self._entry(folder, name)
        if not node.folder:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        if node.entries:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)
        self._name((folder, name, None))

    def unlink(self, name: str, *, dir_fd: int) -> None:
        self._operation()
        folder = self._node(dir_fd)
        if self._entry(folder, name).folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        self._name((folder, name, None))

    def link(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._operation(grows=True)
        if not self._hard_links:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        node, into = self._entry(self._node(src_dir_fd), name), self._node(dst_dir_fd)
        self._free(into, new_name)
        self._name((into, new_name, node))

    def rename(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._operation()
        folder, into = self._node(src_dir_fd), self._node(dst_dir_fd)
        node = self._entry(folder, name)
        standing = into.entries.get(self._key(new_name))
        if standing is not None and standing[1].folder is not node.folder:
            number = errno.EISDIR if standing[1].folder else errno.ENOTDIR
            raise OSError(number, os.strerror(number), new_name)
        self._name((into, new_name, node), (folder, name, None))

    def rename_noreplace(self, name: str, new_name: str, *, src_dir_fd: int, dst_dir_fd: int) -> bool:
        if self.plain:
            return False
        self._free(self._node(dst_dir_fd), new_name)
        self.rename(name, new_name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        return True

    def symlink(self, target: str, name: str, *, dir_fd: int) -> None:
        self._operation(grows=True)
        folder = self._node(dir_fd)
        self._free(folder, name)
        node = self._new(stat.S_IFLNK, 0o777)
        node.target = target
        self._name((folder, name, node))

    def readlink(self, name: str, *, dir_fd: int) -> str:
        node = self._entry(self._node(dir_fd), name)
        if node.kind != stat.S_IFLNK:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
        return node.target

    def listdir(self, handle: int) -> list[str]:
        return [name for name, _ in self._node(handle).entries.values()]

    def stat(self, name: str, *, dir_fd: int) -> SimpleNamespace:
        return _status(self._entry(self._node(dir_fd), name))

    def fstat(self, handle: int) -> SimpleNamespace:
        return _status(self._node(handle))

    def writable(self, handle: int) -> bool:
        return not self.read_only

    def user(self) -> int:
        return UID

    def pread(self, handle: int, length: int, offset: int) -> bytes:
        self._operation()
        return self._node(handle).data.piece(offset, min(length, self._piece_bytes))

    def pread_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        piece = self.pread(handle, len(buffer), offset)
        buffer[: len(piece)] = piece
        return len(piece)

    def pwrite(self, handle: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        self._operation(grows=True)
        piece = bytes(data[: self._piece_bytes])
        self._write(self._node(handle), offset, piece)
        return len(piece)

    def ftruncate(self, handle: int, length: int) -> None:
        self._operation()
        node = self._node(handle)
        if length < len(node.data):
            # Kept simple: a cut is durable at once, with what is left of the unsynced writes.
            node.data.cut(length)
            node.durable.cut(min(length, len(node.durable)))
            node.durable_version += 1
            node.unsynced = [
                (at, _first(piece, length - at), min(end, length))
                for at, piece, end in node.unsynced
                if at < length
            ]
            node.version += 1
        elif length > len(node.data):
            self._write(node, length, b"")

    def _write(self, node: Node, offset: int, piece: bytes | None) -> None:
        if piece is None:
            node.data, node.durable, node.unsynced = Stretches(), Stretches(), []
        else:
            end = offset + len(piece)
            what = self.recognise(offset, piece) or piece
            node.data.put(offset, what, end)
            node.unsynced.append((offset, what, end))
        node.version += 1
        self.changed = True

    def _keeps(self) -> None:
        if self.plain:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def write_direct(self, handle: int, *, on: bool) -> bool:
        """Take it as the real one does; here nothing is durable before a sync either way."""
        self._node(handle)
        return on

    def fchmod(self, handle: int, mode: int) -> None:
        self._operation()
        self._keeps()
        self._node(handle).mode = mode

    def futime(self, handle: int, mtime_ns: int) -> None:
        self._keeps()
        self._node(handle).mtime_ns = mtime_ns

    def lutime(self, name: str, mtime_ns: int, *, dir_fd: int) -> None:
        self._keeps()
        self._entry(self._node(dir_fd), name).mtime_ns = mtime_ns

    def lock(self, handle: int) -> bool:
        """Lock for the handle: whoever has the file open otherwise has it locked."""
        node = self._node(handle)
        holder = self._locked.get(node)
        if holder is not None and holder != handle and self._open.get(holder) is node:
            return False
        self._locked[node] = handle
        return True

    def sync_file(self, handle: int) -> None:
        self._operation()
        node = self._node(handle)
        if node.folder:
            last = 0
            for at, steps in enumerate(self._unsynced_names, 1):
                if any(folder is node for folder, _, _ in steps):
                    last = at
            for steps in self._unsynced_names[:last]:
                self._make_durable(steps)
            del self._unsynced_names[:last]
        else:
            _settle(node)

    def sync_data(self, handle: int) -> None:
        self._operation()
        _settle(self._node(handle))

    def sync_file_system(self, handle: int) -> None:
        self._operation()
        self.sync_all()

    def sync_all(self) -> None:
        """Make everything durable."""
        for steps in self._unsynced_names:
            self._make_durable(steps)
        self._unsynced_names.clear()
        for node in self._every_node():
            if not node.folder:
                _settle(node)

    def fstatvfs(self, handle: int) -> SimpleNamespace:
        if self.failed and self._tape.below(8) == 7:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        free = 0 if self.full else self.free_blocks
        return SimpleNamespace(f_bavail=free or 0, f_blocks=0 if free is None else 1 << 31, f_frsize=4096)

    # -- what was there before -----------------------------------------------------------------------------

    def place(self, path: str, data: bytes | Stretches, mtime_ns: int) -> Node:
        """Put a file into the output folder, durable, as if it had always been there; return it."""
        node = self._stand(path, stat.S_IFREG)
        node.data = data.copy() if isinstance(data, Stretches) else Stretches(data)
        node.durable = node.data.copy()
        node.mtime_ns = mtime_ns
        return node

    def place_link(self, path: str, target: str) -> None:
        """Put a link there."""
        self._stand(path, stat.S_IFLNK).target = target

    def make_private(self, path: str) -> None:
        """Let a folder in the output folder be readable for its owner alone."""
        folder, name = self._at(f"{OUT}/{path}", None)
        self._entry(folder, name).mode = 0o700

    def _stand(self, path: str, kind: int) -> Node:
        harm, self.fail_at, full, self.full = self.fail_at, {}, self.full, False
        self.make_folders(f"{OUT}/{path}".rpartition("/")[0])
        folder, name = self._at(f"{OUT}/{path}", None)
        node = self._new(kind, 0o644)
        self._name((folder, name, node))
        self._make_durable(self._unsynced_names.pop())
        self.fail_at, self.full = harm, full
        return node

    def clear(self) -> None:
        """Take everything away that has a final name, as a person may before another try."""
        start = self.top.entries.get(self._key(OUT[1:]))
        if start is not None:
            for name, _ in list(start[1].entries.values()):
                if not name.startswith(".tallow-"):
                    self._name((start[1], name, None))

    # -- for the oracles -----------------------------------------------------------------------------------

    def tree(self) -> Iterator[tuple[str, Node]]:
        """Return every (path, node) under the output folder, what Tallow keeps for itself left out."""
        start = self.top.entries.get(self._key(OUT[1:]))
        stack = [("", start[1])] if start else []
        while stack:
            path, folder = stack.pop()
            for name, node in folder.entries.values():
                if name.startswith(".tallow-"):
                    continue
                whole = f"{path}/{name}" if path else name
                yield whole, node
                if node.folder:
                    stack.append((whole, node))

    def own(self) -> list[tuple[str, Node]]:
        """Return what Tallow keeps for itself in the output folder."""
        start = self.top.entries.get(self._key(OUT[1:]))
        return (
            []
            if start is None
            else [(n, node) for n, node in start[1].entries.values() if n.startswith(".tallow-")]
        )


def _settle(node: Node) -> None:
    if node.unsynced:
        node.durable = node.data.copy()
        node.durable_version += 1
        node.unsynced = []


def _status(node: Node) -> SimpleNamespace:
    return SimpleNamespace(
        st_mode=node.kind | node.mode,
        st_ino=node.number,
        st_dev=1,
        st_uid=UID,
        st_size=len(node.data),
        st_mtime_ns=node.mtime_ns,
        st_ctime_ns=node.version,
        st_nlink=node.names,
    )


def _first(what: bytes | Made, length: int) -> bytes | Made:
    return what[:length] if isinstance(what, bytes) else what
