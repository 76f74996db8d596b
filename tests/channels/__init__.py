"""Tests of channel removal, and what they share."""
