"""Kill a process before its n-th operation, as SQLite's own tests do, or let that operation fail.

An operation is a system call that changes something outside the process: writing, syncing, renaming or
removing a file, connecting, sending.  The kernel reports the calls of the child and all its threads to the
parent (seccomp user notification, Linux 5.5), which lets each continue, kills the child, or returns an error.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NoReturn

End = Literal["finished", "failed", "crashed", "killed"]
"""Crashed: by an unexpected error."""

_MACHINES = ("x86_64", "aarch64")
_NUMBERS = {
    "write": (1, 64),
    "pwrite64": (18, 68),
    "writev": (20, 66),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "ftruncate": (77, 46),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "connect": (42, 203),
    "sendto": (44, 206),
}
"""Of the calls that are operations, on each machine."""
_SECCOMP = (317, 277)
FILLS_THE_DISK = frozenset(
    {"write", "pwrite64", "writev", "ftruncate", "mkdir", "mkdirat", "fsync", "fdatasync"}
)

_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_GO_ON = 1
_FINISHED, _FAILED, _CRASHED = 0, 3, 4
_ENDS: dict[int, End] = {_FINISHED: "finished", _FAILED: "failed"}


@dataclass(frozen=True, slots=True)
class Ended:
    """How the work ended, after how many operations, and which was the last."""

    how: End
    num_operations: int
    last: str


def is_supported() -> bool:
    return platform.system() == "Linux" and platform.machine() in _MACHINES


def run(
    work: Callable[[], bool], *, at: int, error: int | None = None, only: frozenset[str] | None = None
) -> Ended:
    """Run work in a child process and stop it before its operation number ``at``.

    Parameters
    ----------
    work : callable
        Returns whether it succeeded.
    at : int
        From 1; with 0 operations are counted and none is stopped.
    error : int, optional
        Do not kill: this operation and all later ones fail with this ``errno``.
    only : frozenset of str, optional
        Count only these calls.
    """
    machine = _MACHINES.index(platform.machine())
    watched = {
        number: name
        for name, numbers in _NUMBERS.items()
        if (number := numbers[machine]) is not None and (only is None or name in only)
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = os.fork()
        if pid == 0:
            _child(work, theirs, watched, _SECCOMP[machine])
        theirs.close()
        _, (listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
    try:
        count, last = _supervise(listener, pid, watched, at=at, error=error)
    finally:
        os.close(listener)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return Ended("killed", count, last)
    return Ended(_ENDS.get(os.waitstatus_to_exitcode(status), "crashed"), count, last)


def _child(
    work: Callable[[], bool], channel: socket.socket, watched: dict[int, str], seccomp: int
) -> NoReturn:
    """Install the filter, send its listener to the parent, work, and exit."""
    code = _CRASHED
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # without it no call would return
        listener = _install(watched, seccomp)
        socket.send_fds(channel, [b"x"], [listener])  # by sendmsg, which is not watched
        os.close(listener)
        code = _FINISHED if work() else _FAILED
    except BaseException:  # noqa: BLE001 - shown here, where the process ends
        traceback.print_exc()
    finally:
        os._exit(code)


def _install(watched: dict[int, str], seccomp: int) -> int:
    """Have the kernel report the watched calls of this thread and of the threads it starts."""
    code = [(_LOAD, 0, 0, 0)]
    code += [(_IF_EQUAL, len(watched) - place, 0, number) for place, number in enumerate(watched)]
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    packed = b"".join(struct.pack("HBBI", *instruction) for instruction in code)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    listener: int = libc.syscall(seccomp, _SET_MODE_FILTER, _NEW_LISTENER, program)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def _supervise(
    listener: int, pid: int, watched: dict[int, str], *, at: int, error: int | None
) -> tuple[int, str]:
    """Answer every report until the child ends; return how many there were, and the last."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    count, last = 0, ""
    while True:
        ((_, event),) = poll.poll()
        if not event & select.POLLIN:  # the child has ended
            return count, last
        notice = bytearray(80)
        try:
            fcntl.ioctl(listener, _RECEIVE, notice)
        except OSError as exc:
            if exc.errno == errno.ENOENT:  # the caller died meanwhile
                continue
            raise
        identity, caller, _, number = struct.unpack_from("QIIi", notice)
        count, last = count + 1, watched[number]
        is_reached = 0 < at <= count
        if is_reached and error is None:
            for process in {pid, caller}:  # a program that the child started is killed with it
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            continue
        failure = -error if is_reached and error is not None else 0
        answer = struct.pack("QqiI", identity, 0, failure, 0 if failure else _GO_ON)
        try:
            fcntl.ioctl(listener, _SEND, bytearray(answer))
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise
