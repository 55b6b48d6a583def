"""What can go wrong for a user, and the exit code that each kind of it ends with.

The codes are a contract with scripts and CI pipelines (see docs/exit-codes.md). An exception that is none of
these is a bug of xenqemu and ends with `EXIT_BUG`.
"""

from __future__ import annotations

import errno
from typing import ClassVar

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_SOURCE = 3
EXIT_PATCH = 4
EXIT_MISSING = 5
EXIT_BUILD = 6
EXIT_VM_CONFIG = 7
EXIT_LAB = 8
EXIT_INTERRUPTED = 130


class XenqemuError(Exception):
    """Something that the user can do something about.

    `message` says what was wrong and where, `hint` what to do about it; each is one line, except where the
    message quotes the output of a failed command.
    """

    exit_code: ClassVar[int] = EXIT_BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(XenqemuError):
    """An option, a setting, a profile or another name that the user gave is wrong."""

    exit_code = EXIT_USAGE


class SourceError(XenqemuError):
    """The QEMU source could not be had, is not QEMU, or is of an unsupported version."""

    exit_code = EXIT_SOURCE


class UnservedError(SourceError):
    """The package archive lists a source package, and does not give its files."""


class PatchError(XenqemuError):
    """A patch of the series does not apply, or the series itself is malformed."""

    exit_code = EXIT_PATCH


class MissingError(XenqemuError):
    """Something that the build needs is missing: a compiler, headers, libraries, a tool, disk space."""

    exit_code = EXIT_MISSING


class BuildError(XenqemuError):
    """Configure or compile failed."""

    exit_code = EXIT_BUILD


class VmConfigError(XenqemuError):
    """A VM config could not be read, understood or written; nothing was changed."""

    exit_code = EXIT_VM_CONFIG


class LabError(XenqemuError):
    """A guest of the lab, or its virtual host, did not boot."""

    exit_code = EXIT_LAB


def is_disk_full(error: OSError) -> bool:
    """Whether `error` says that no space, or none of the user's quota, is left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
