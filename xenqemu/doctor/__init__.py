"""What this machine has and lacks for a build."""
