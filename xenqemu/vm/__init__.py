"""VM configs: xl.cfg files and libvirt domain XML, read and edited without losing a byte."""
