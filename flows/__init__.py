"""The jobs as Prefect flows: phases in order, and what is shown of them while they work."""
