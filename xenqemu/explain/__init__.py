"""Why a guest did not start or did not boot, read from the logs of those who know: libxl, the device model, the guest.

libxl says "device model did not start: -3", and why stands in another file. Logs are read together, held against the
table `causes.toml`, and what comes out is a cause in a sentence, a remedy in another, and the lines that say so.
"""

from xenqemu.explain.matching import explain
from xenqemu.explain.model import Cause, Explanation, Finding, Line, Log
from xenqemu.explain.reading import log_of, read_log
from xenqemu.explain.table import causes

__all__ = ["Cause", "Explanation", "Finding", "Line", "Log", "causes", "explain", "log_of", "read_log"]
