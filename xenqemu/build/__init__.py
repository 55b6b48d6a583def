"""Stage 5: configure, compile, install; artifacts keyed by everything that went in."""
