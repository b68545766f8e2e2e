"""Write models: as directories that load anywhere, and as graphs for ONNX Runtime and ``torch.export``."""

from __future__ import annotations

from omar_rq.export.directory import MODEL_FORMATS, export, write_model

__all__ = ["MODEL_FORMATS", "export", "write_model"]
