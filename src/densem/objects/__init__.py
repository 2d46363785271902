"""Objects: from class ids to numbered, measured cells and organelles; knows volumes, no networks."""

from densem.objects.finding import Objects, ObjectsOptions, find_objects
from densem.objects.rules import ClassRule, Rules

__all__ = ["ClassRule", "Objects", "ObjectsOptions", "Rules", "find_objects"]
