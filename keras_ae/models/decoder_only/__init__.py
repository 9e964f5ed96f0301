"""Models that search for codes, having no encoder."""
