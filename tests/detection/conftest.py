"""Tests of detectors need torchvision and an evaluator of COCO's metric; those of data and rows do not."""

from importlib.util import find_spec

THERE = all(find_spec(name) for name in ("torchvision", "faster_coco_eval"))
NEEDING = ("nets", "test_task", "test_precision", "test_runs", "test_one_stage", "test_categories")
collect_ignore = [] if THERE else [f"{name}.py" for name in NEEDING]
