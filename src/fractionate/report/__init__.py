"""Run folders -> tables and one self-contained page. Reads files only; knows no model and no torch."""

from __future__ import annotations

from fractionate.report.console import print_table
from fractionate.report.page import write_page
from fractionate.report.runs import RunRecord, read_runs
from fractionate.report.study import StudyRecord, print_study, read_study, write_study
from fractionate.report.summary import RunFolderError, Summary
from fractionate.report.table import Row, Table, table

__all__ = [
    "read_runs",
    "RunRecord",
    "Summary",
    "RunFolderError",
    "table",
    "Table",
    "Row",
    "print_table",
    "write_page",
    "StudyRecord",
    "read_study",
    "print_study",
    "write_study",
]
