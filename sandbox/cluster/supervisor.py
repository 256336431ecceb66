"""The process around one container: makes its namespaces and its root, starts it as their process 1, writes its log, ends with its exit code.

The kubelet runs it as `python -I -S supervisor.py`: a program of its own with the standard library alone, so that it starts in 30 ms. It reads
the container's description as one line of JSON from its standard input, which stays open: when it closes, the kubelet is gone, and the
container is killed. It answers with one line of JSON: `{"pid": …}` once the program runs, or `{"error": …}`.

The root is an overlay over the machine's own `/`: everything that is installed is there, and nothing that the container writes remains.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import json
import os
import pwd
import select
import shutil
import signal
import sys
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

START_FAILED = 128  # containerd's exit code for a program that could not be started

# linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h
_NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000  # mount, UTS, IPC, PID; the network is the machine's
_MS_RDONLY, _MS_NOSUID, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_LAST_CAPABILITY = 40
# The capabilities that containerd leaves to a container that runs as root; `capabilities.drop: [ALL]` drops these too.
CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_RAW": 13,
    "SYS_CHROOT": 18,
    "MKNOD": 27,
    "AUDIT_WRITE": 29,
    "SETFCAP": 31,
}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LOG_CHUNK = 16 * 1024  # longer lines are logged in parts, as a container runtime does

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
    result = _libc.mount(_encoded(source), _encoded(str(target)), _encoded(kind), ctypes.c_ulong(flags), _encoded(options))
    _checked(result, f"mount {kind or source} on {target}")


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _bind(source: str, target: Path, *, writable: bool, recursive: bool = False) -> None:
    _mount(source, target, None, _MS_BIND | (_MS_REC if recursive else 0))
    if not writable:
        _mount("none", target, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def inside(root: Path, path: str) -> Path:
    """Returns a container path's place on the host. Symbolic links are followed inside the root: `/var/run` must not lead to the machine's `/run`."""
    found, rest, hops = root, [part for part in path.split("/") if part], 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            found = found.parent if found != root else root
        elif part != ".":
            candidate = found / part
            if candidate.is_symlink() and hops < 40:
                hops += 1
                target = str(candidate.readlink())
                found = root if target.startswith("/") else found
                rest = [each for each in target.split("/") if each] + rest
            else:
                found = candidate
    return found


def _hide(upper: Path, path: Path) -> None:
    """Empties a directory of the machine in the overlay, and keeps the mode and owner of every directory above it."""
    place = upper
    for part in path.parts[1:]:
        place /= part
        original = Path("/") / place.relative_to(upper)
        if not place.exists():
            place.mkdir()
            state = original.stat()
            os.chown(place, state.st_uid, state.st_gid)
            place.chmod(state.st_mode & 0o7777)
    os.setxattr(place, "trusted.overlay.opaque", b"y")


def _make_root(scratch: Path, hidden: list[str]) -> Path:
    # A memory file system below the overlay: it works even if `/` itself is an overlay, and ends with the namespace.
    _mount("tmpfs", scratch, "tmpfs", 0, "mode=755")
    upper, work, root = (scratch / name for name in ("upper", "work", "root"))
    for directory in (upper, work, root):
        directory.mkdir()
    real = {Path(os.path.realpath(path)) for path in hidden}
    for path in real:
        if path.is_dir() and real.isdisjoint(path.parents):
            _hide(upper, path)
    _mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
    return root


def _make_system_directories(root: Path) -> None:
    _mount("proc", root / "proc", "proc", 0)
    devices = root / "dev"
    _mount("tmpfs", devices, "tmpfs", _MS_NOSUID, "mode=755")
    for name in _DEVICES:
        (devices / name).touch()
        _bind(f"/dev/{name}", devices / name, writable=True)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (devices / name).symlink_to(f"/proc/self/fd{target}")
    (devices / "shm").mkdir()
    _mount("tmpfs", devices / "shm", "tmpfs", _MS_NOSUID, "mode=1777")
    with contextlib.suppress(OSError):
        _bind("/sys", root / "sys", writable=False)


def _bind_volume(root: Path, mount: dict[str, Any]) -> None:
    """Binds a directory or file to its place. Every user can reach an image's files, as in a real image, even if the machine
    keeps them below a directory that only root may enter."""
    source, target = mount["source"], inside(root, mount["target"])
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    if mount["reachable"]:
        for above in target.parents[: len(target.parts) - len(root.parts) - 1]:
            mode = above.stat().st_mode
            if mode & 0o111 != 0o111:
                above.chmod(mode | 0o111)
    _bind(source, target, writable=mount["writable"], recursive=True)


def _enter(container: dict[str, Any]) -> None:
    """Makes the container's root and becomes its user. Runs in the child process, so that what it gives up is the container's alone."""
    _mount("none", Path("/"), None, _MS_REC | _MS_PRIVATE)
    hostname = container["hostname"].encode()
    _checked(_libc.sethostname(hostname, len(hostname)), "sethostname")
    root = _make_root(Path(container["scratch"]), container["hidden"])
    _make_system_directories(root)
    # As in container runtimes, outer places come first: a volume at /tmp must not cover what the image has below it.
    for mount in sorted(container["mounts"], key=lambda item: len(PurePosixPath(item["target"]).parts)):
        _bind_volume(root, mount)
    where = inside(root, container["working_directory"])
    where.mkdir(parents=True, exist_ok=True)
    if container["read_only"]:
        _mount("none", root, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
    os.chroot(root)
    os.chdir(container["working_directory"])
    _become(container)


def _become(container: dict[str, Any]) -> None:
    kept = {CAPABILITIES[name] for name in container["capabilities"]}
    for capability in range(_LAST_CAPABILITY + 1):
        if capability not in kept:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for numbers that this kernel does not know
    os.setgroups(container["groups"])
    os.setgid(container["group"])
    os.setuid(container["user"])
    if container["no_new_privileges"]:
        _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)  # last: a change of user clears it


def _home(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_dir
    except KeyError:
        return "/"


def _run(container: dict[str, Any], output: int, failure: int) -> NoReturn:
    try:
        os.setsid()
        _enter(container)
        variables = {"HOME": _home(container["user"])} | container["environment"]
        program = container["command"][0]
        if "/" not in program and shutil.which(program, path=variables.get("PATH", os.defpath)) is None:
            raise FileNotFoundError(f'exec: "{program}": executable file not found in $PATH')
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, place in ((null, 0), (output, 1), (output, 2)):
            os.dup2(descriptor, place)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program would inherit that
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(program, container["command"], variables)
    except BaseException as problem:  # noqa: BLE001 - whatever it is goes to the parent
        os.write(failure, str(problem).encode()[:4000])
    os._exit(START_FAILED)


class _Log:
    """Writes `TIME F text` lines (P if a line continues in the next), the format that `logs.py` reads."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._rest = b""

    def add(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        written = b"".join(self._line(line) for line in lines)
        while len(self._rest) >= _LOG_CHUNK:
            written += self._stamped(b"P", self._rest[:_LOG_CHUNK])
            self._rest = self._rest[_LOG_CHUNK:]
        if written:
            os.write(self._file, written)

    def close(self) -> None:
        if self._rest:
            os.write(self._file, self._stamped(b"P", self._rest))
        os.close(self._file)

    def _line(self, line: bytes) -> bytes:
        parts = [line[at : at + _LOG_CHUNK] for at in range(0, len(line), _LOG_CHUNK)] or [b""]
        return b"".join(self._stamped(b"P", part) for part in parts[:-1]) + self._stamped(b"F", parts[-1])

    @staticmethod
    def _stamped(tag: bytes, text: bytes) -> bytes:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode()
        return b" ".join((now, tag, text)) + b"\n"


def _follow(pid: int, output: int, log: _Log) -> int:
    """Copies the container's output to its log until it ends; kills it if the kubelet goes away. Returns its exit code."""
    ended = os.pidfd_open(pid)
    poll = select.poll()
    for descriptor in (ended, output, 0):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if output in ready:
            data = os.read(output, 1 << 16)
            if data:
                log.add(data)
                continue  # all output comes before the end
            poll.unregister(output)
        if 0 in ready and not os.read(0, 4096):
            poll.unregister(0)
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        if ended in ready:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _drain(output: int, log: _Log) -> None:
    """Logs the output of processes that died with process 1."""
    while data := os.read(output, 1 << 16):
        log.add(data)
    log.close()


def _say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Runs the container that standard input describes; returns its exit code, 128 + N if a signal ended it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the kubelet signals the container itself
    description = b""
    while not description.endswith(b"\n"):
        description += os.read(0, 1 << 16) or b"\n"
    if not description.strip():
        return START_FAILED
    container = json.loads(description)
    log = _Log(container["log"])
    reading, output = os.pipe()
    failures, failure = os.pipe()
    _checked(_libc.unshare(_NEW_NAMESPACES), "unshare")
    pid = os.fork()
    if pid == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _run(container, output, failure)
    os.close(output)
    os.close(failure)
    problem = os.read(failures, 4096)
    if problem:
        os.waitpid(pid, 0)
        _say(error=problem.decode(errors="replace"))
        return START_FAILED
    _say(pid=pid)
    code = _follow(pid, reading, log)
    _drain(reading, log)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
