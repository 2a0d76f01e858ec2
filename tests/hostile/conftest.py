"""Makes failures in the shared assertions as telling as those in the tests."""

import pytest

pytest.register_assert_rewrite("tests.hostile.asserting")
