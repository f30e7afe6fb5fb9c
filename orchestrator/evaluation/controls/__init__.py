"""The controls of an evaluation: the same pairs under conditions whose outcome is known, to catch what figures hide.

A judge that peeks at labels, a clip with somebody else's sound, a pair list that is off by one: accuracy looks good, or
only bad, and says nothing of why. Each of them fails controls of its own. Contract: a control never fails by luck (once
in a thousand evaluations at most), says that it has passed only where the data show it, and is open (`passed` is None)
where they show neither; what is asked is asked through the product's own path, labels and all.
"""

from orchestrator.evaluation.controls.judging import Change, CorpusJudge, Judge
from orchestrator.evaluation.controls.result import ControlResult
from orchestrator.evaluation.controls.run import PAIRS, controls_here, run_controls
from orchestrator.evaluation.controls.structure import check_structure

__all__ = [
    "PAIRS",
    "Change",
    "ControlResult",
    "CorpusJudge",
    "Judge",
    "check_structure",
    "controls_here",
    "run_controls",
]
