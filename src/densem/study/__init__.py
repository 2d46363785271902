"""A study folder and its loop; composes the stages."""

from densem.study.study import Study

__all__ = ["Study"]
