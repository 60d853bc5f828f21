"""Where ranks stand: (pipeline, data, tensor) layouts and tensor-parallel arithmetic."""
