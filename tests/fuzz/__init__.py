"""Tests against other implementations with many more cases than an ordinary run has time for."""
