"""xl.cfg, read as Xen's libxlutil reads it, and edited as bytes."""

from xenqemu.vm.xlcfg.config import Statement, Value, XlConfig
from xenqemu.vm.xlcfg.editor import edit
from xenqemu.vm.xlcfg.parser import XlSyntaxError, parse
from xenqemu.vm.xlcfg.python import is_python

__all__ = ["Statement", "Value", "XlConfig", "XlSyntaxError", "edit", "is_python", "parse"]
