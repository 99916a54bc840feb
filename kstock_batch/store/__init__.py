"""The private store: one writer, its statements, its ledger, its audits."""
