"""The tests of xenqemu."""
