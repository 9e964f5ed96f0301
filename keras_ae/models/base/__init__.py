"""What models share: verbs, samples, labels, the search for codes."""
