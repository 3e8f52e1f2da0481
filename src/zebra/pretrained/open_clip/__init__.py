"""Reading and writing of model folders in open_clip's layout."""
