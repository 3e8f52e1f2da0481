"""Export of models to ONNX, the format of the folder, and its backend."""
