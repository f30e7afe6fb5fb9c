"""Every file of the zoo, one test each: read exactly, or refused for the right reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.zoo.case import Case
from tests.zoo.cases import all_cases
from tests.zoo.run import attempt


def _parameter(case: Case) -> object:
    return pytest.param(case, id=case.name, marks=pytest.mark.slow if case.slow else ())


@pytest.mark.filterwarnings("ignore")  # libraries warn of formats that are old, which is what these files are
@pytest.mark.parametrize("case", [_parameter(case) for case in all_cases()])
def test_zoo(case: Case, tmp_path: Path) -> None:
    problem = attempt(case, tmp_path)
    assert not problem, f"{case.group}: {case.name}: {problem}"
