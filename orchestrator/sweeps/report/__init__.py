"""A sweep as a page and as pictures: what people look at before they read anything."""

from orchestrator.sweeps.report.page import REPORT, render, write_report
from orchestrator.sweeps.report.pictures import figures

__all__ = ["REPORT", "figures", "render", "write_report"]
