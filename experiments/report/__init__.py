"""The report of a study: one page to read, one file of numbers, from one dict."""
