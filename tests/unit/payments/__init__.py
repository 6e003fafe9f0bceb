import pytest

# Its asserts are in classes that test modules of other folders inherit.
pytest.register_assert_rewrite("tests.unit.payments.behaviour")
