"""Runs: fingerprint, ledger, lease, dispatch over Dask, clusters, verification. Knows no network."""
