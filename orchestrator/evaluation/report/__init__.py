"""Evaluations, audits and scores as pages: what people look at, and listen to, before they believe a figure."""

from orchestrator.evaluation.report.advice import ControlLine, audit_advice, evaluation_advice
from orchestrator.evaluation.report.clip import playable
from orchestrator.evaluation.report.page import REPORT, Scored, audit_report, evaluation_report, score_report, write
from orchestrator.evaluation.report.pictures import audit_figures, evaluation_figures
from orchestrator.evaluation.report.samples import Sample, audit_samples, evaluation_samples
from orchestrator.evaluation.report.sound import sound_of_mel

__all__ = [
    "REPORT",
    "ControlLine",
    "Sample",
    "Scored",
    "audit_advice",
    "audit_figures",
    "audit_report",
    "audit_samples",
    "evaluation_advice",
    "evaluation_figures",
    "evaluation_report",
    "evaluation_samples",
    "playable",
    "score_report",
    "sound_of_mel",
    "write",
]
