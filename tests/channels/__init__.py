"""Tests of channel removal, and what they share."""

import pytest

pytest.register_assert_rewrite("channels.checks", "channels.gate")
