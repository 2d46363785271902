"""Figures and one self-contained HTML page. Loads matplotlib: import it where a report is made."""

from densem.report.content import (
    Cell,
    Chart,
    Commands,
    Gallery,
    Legend,
    Notice,
    PanelRow,
    Paragraph,
    ReportContent,
    Section,
    Table,
    Tile,
    View3D,
)
from densem.report.curves import Attempt, attempts_of, read_attempts, training_curves
from densem.report.evaluation import Evaluation, evaluation_report
from densem.report.figures import Figure, class_bars, confusion_matrix
from densem.report.methods import methods_paragraph
from densem.report.page import page, write_page
from densem.report.panels import Panel, Subject, contact_sheet, panels_of
from densem.report.reliability import reliability_diagram
from densem.report.views import choose_views

__all__ = [
    "Attempt",
    "Cell",
    "Chart",
    "Commands",
    "Evaluation",
    "Figure",
    "Gallery",
    "Legend",
    "Notice",
    "Panel",
    "PanelRow",
    "Paragraph",
    "ReportContent",
    "Section",
    "Subject",
    "Table",
    "Tile",
    "View3D",
    "attempts_of",
    "choose_views",
    "class_bars",
    "confusion_matrix",
    "contact_sheet",
    "evaluation_report",
    "methods_paragraph",
    "page",
    "panels_of",
    "read_attempts",
    "reliability_diagram",
    "training_curves",
    "write_page",
]
