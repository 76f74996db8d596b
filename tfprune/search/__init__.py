"""Find the sparsest model inside an accuracy budget, with training in the loop."""

from tfprune.search.result import SearchResult, Trial
from tfprune.search.searching import search

__all__ = ["SearchResult", "Trial", "search"]
