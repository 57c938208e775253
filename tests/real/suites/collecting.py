"""A plugin for pytest: what a test leaves behind is collected at its end.

asyncpg's tests fail on what the garbage collector complains of, whichever test it was left by. When it runs is chance; so it runs here.
"""

import gc

import pytest


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item):
    gc.collect()
