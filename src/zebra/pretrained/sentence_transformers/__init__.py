"""Reading and writing of model folders in the layout of sentence-transformers."""
