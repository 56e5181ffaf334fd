"""Tests of what stands behind a publisher."""
