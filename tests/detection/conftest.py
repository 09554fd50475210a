"""Tests of detectors need torchvision and an evaluator of COCO's metric; those of data and rows do not."""

from importlib.util import find_spec

THERE = all(find_spec(name) for name in ("torchvision", "faster_coco_eval"))
collect_ignore = (
    [] if THERE else ["test_task.py", "test_precision.py", "test_runs.py", "test_one_stage.py", "test_categories.py"]
)
