"""Where the project's data (`patches/`, `targets/`, `contract/`) is, in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_dir(name: str) -> Path:
    """Return the folder of the project's data called `name` (`patches`, `targets` or `contract`).

    A checkout (or an editable install of one) has it beside the package; a wheel carries it inside the
    package as `data/NAME`, put there by `pyproject.toml`. Raises `FileNotFoundError` when neither is there,
    which means a damaged installation.
    """
    for candidate in (_PACKAGE / "data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"xenqemu's own data folder '{name}' is missing below {_PACKAGE}")


def is_installed() -> bool:
    """Whether the data is part of an installed package, where nobody should edit it, rather than of a checkout."""
    return (_PACKAGE / "data").is_dir()
