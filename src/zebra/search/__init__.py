"""Vectors and a query in; the rows nearest to it out, exactly or by an index, filtered, folded, page by page."""
