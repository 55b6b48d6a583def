"""xl.cfg, read and edited as bytes."""
