"""Which batch size? Searches, curves and comparisons."""

from skminibatch.model_selection.search import BatchSizeSearchCV

__all__ = ["BatchSizeSearchCV"]
