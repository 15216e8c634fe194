"""The control plane: `/admin/v1` for operators. Typed controllers over the catalogue and the ledger. Refuses to know
the data plane."""
