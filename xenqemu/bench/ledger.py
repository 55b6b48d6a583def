"""What was measured so far: a run that was interrupted goes on, and what has not changed is not measured again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xenqemu.state import write_atomic

Values = Mapping[str, float]


@dataclass(frozen=True)
class Ledger:
    """A folder with a file for each measurement that has been finished."""

    folder: Path

    def once(self, name: str, inputs: Mapping[str, object], measure: Callable[[], Values]) -> Values:
        """Return what `measure` gives for `inputs`, from the ledger where it is there, and enter it otherwise.

        `inputs` is all that decides on the values, as JSON has it; other inputs mean another measurement.
        """
        path = self.folder / f"{re.sub(r'[^a-zA-Z0-9_.-]', '_', name)}.json"
        wanted = json.loads(json.dumps(inputs))
        try:
            kept = json.loads(path.read_bytes())
            if kept["inputs"] == wanted:
                return {str(key): float(value) for key, value in kept["values"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # not there, or not written by us: measured anew
        values = dict(measure())
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"inputs": wanted, "values": values}, indent=1).encode())
        return values
