"""A prepared corpus as training sees it; its copies on a node; its validation pairs; pictures of its samples."""

from orchestrator.data.corpus.corpus import Corpus, CorpusSplit, SplitName

__all__ = ["Corpus", "CorpusSplit", "SplitName"]
