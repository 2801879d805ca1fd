"""How accepted labels become a better network: jobs that train, a gate that judges, versions that are served."""
