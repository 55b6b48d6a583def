"""The package archive that the machine is configured for."""
