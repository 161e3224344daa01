"""Power before a study runs: simulated studies, judged by the rules of verdicts."""
