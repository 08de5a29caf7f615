"""A test that is skipped has failed, unless it says that it needs data that is not here."""

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skip into a failure."""
    report = yield
    excused = hasattr(report, "wasxfail") or "needs ../shared/data" in str(report.longrepr)
    if report.skipped and not excused:
        report.outcome = "failed"
        report.longrepr = f"skipped, though nothing is missing: {report.longrepr}"
    return report


@pytest.fixture
def float32():
    """Start and end in float32."""
    import keras

    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")
