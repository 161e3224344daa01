"""From recorded trials to honest exponents: table, envelope, fit, verdict, report."""
