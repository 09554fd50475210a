"""Where teacher logits come from: a live network, or a table of what it said."""

from .live import LiveTeacher, Teacher, folded
from .table import TeacherTable, tabled

__all__ = [
    "LiveTeacher",
    "Teacher",
    "TeacherTable",
    "folded",
    "tabled",
]
