"""Reading and writing of model folders in the layout of Hugging Face transformers."""
