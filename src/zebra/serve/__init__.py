"""HTTP service: classification, embedding and search, with a web page."""
