"""The steps of ``tsjt prepare``, each in chunks that outlive an interruption."""
