"""Reports: figures, pages, PDFs, comparisons of studies."""
