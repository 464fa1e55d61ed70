"""Models: networks, the detector, saved folders and their guards, ONNX, explanations."""
