"""xenqemu and libxlutil on as many configs as XENQEMU_FUZZ_CASES says, 100,000 unless told."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.xlcfgs import CASES_PER_EXAMPLE, batch, check, configs
from tests.unit.xlu import Libxlutil

CASES = int(os.environ.get("XENQEMU_FUZZ_CASES", "100000"))


@pytest.fixture(scope="module")
def libxlutil() -> Libxlutil:
    try:
        return Libxlutil()
    except OSError as error:
        pytest.skip(str(error))


@settings(
    max_examples=-(-CASES // CASES_PER_EXAMPLE),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(config=configs, seed=st.integers(0, 2**64))
def test_xenqemu_and_libxlutil_agree(libxlutil: Libxlutil, config: bytes, seed: int) -> None:
    for data, chance in batch(config, seed):
        check(libxlutil, data, chance)
