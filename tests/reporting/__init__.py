"""Tests of the page about a run, and what they share."""
