"""The stateless sample stream: which windows stand at position i of a run, and what is changed about them."""

from orchestrator.data.stream.clip_table import ClipTable
from orchestrator.data.stream.negatives import Negative
from orchestrator.data.stream.samples import Clips, Sample, SampleStream, as_table

__all__ = ["ClipTable", "Clips", "Negative", "Sample", "SampleStream", "as_table"]
