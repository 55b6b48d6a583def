"""xl.cfg files: what the parser makes of them, and what an edit changes."""

from __future__ import annotations

from xenqemu.vm.xlcfg import edit, parse

EXAMPLE = b"""# An HVM guest
name = "guest"
memory = 512 ; vcpus=2
disk = [ 'phy:/dev/a,hda,w',
         'phy:/dev/b,hdb,w', # data
       ]
"""


def test_statements_know_where_they_are() -> None:
    config = parse(EXAMPLE, "guest.cfg")
    assert [(statement.name, statement.line) for statement in config.statements] == [
        ("name", 2),
        ("memory", 3),
        ("vcpus", 3),
        ("disk", 4),
    ]
    for statement in config.statements:
        assert EXAMPLE[statement.start : statement.end].startswith(statement.name.encode())
    assert config.effective() == {
        "name": "guest",
        "memory": "512",
        "vcpus": "2",
        "disk": ("phy:/dev/a,hda,w", "phy:/dev/b,hdb,w"),
    }


def test_an_edit_changes_the_value_and_adds_a_line() -> None:
    edited = edit(parse(EXAMPLE, "guest.cfg"), {"memory": "1024", "builder": "hvm"})
    assert edited == EXAMPLE.replace(b"512", b"1024") + b'builder = "hvm"\n'
