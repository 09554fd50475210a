"""Images with boxes: COCO's format is read, and batches carry boxes, labels and sizes in one tensor."""

from .coco import annotated
from .source import BoxImages
from .target import Known, packed, unpacked

__all__ = ["BoxImages", "Known", "annotated", "packed", "unpacked"]
