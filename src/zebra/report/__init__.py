"""HTML reports: pages, sections, figures and tables."""
