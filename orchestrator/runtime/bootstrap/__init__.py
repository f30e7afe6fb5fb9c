"""The bootstrap: train, audit the corpus with what was trained, correct its manifest, train again, until it settles.

`loop` is the way in, `ledger` what it remembers between two starts.
"""

from orchestrator.runtime.bootstrap.ledger import Round
from orchestrator.runtime.bootstrap.loop import BootstrapOptions, BootstrapResult, bootstrap

__all__ = ["BootstrapOptions", "BootstrapResult", "Round", "bootstrap"]
