"""The command line: click commands, one module a group, no logic."""
