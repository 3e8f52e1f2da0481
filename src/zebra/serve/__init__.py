"""HTTP: JSON in, vectors, labels and pictures out; the only user of fastapi and uvicorn."""
