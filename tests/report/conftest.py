import pytest

from tests.report.synthetic import write_study


@pytest.fixture
def study(tmp_path):
    """Run folders of six methods with three seeds each."""
    return write_study(tmp_path / "runs")
