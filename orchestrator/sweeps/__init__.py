"""What a sweep thinks, without Ray: its space, its search, its ledger, its answer and the report that shows it."""
