"""Invented talking heads: the corpus, the face, the voice."""

from orchestrator.data.synthetic.corpus import VERSION, Progress, make_corpus

__all__ = ["VERSION", "Progress", "make_corpus"]
