"""OpenVINO as it is imported here: without the package by which it would report each conversion to its makers."""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # then importing it fails, for which OpenVINO has a stub

import openvino  # noqa: E402

__all__ = ["openvino"]
